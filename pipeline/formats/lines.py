"""Lines: the blocks of whole lines that JSON Lines and plain text are read by, and plain text itself.

A line belongs to the range of bytes in which its first byte lies, so that a file can be cut anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats.rows import BLOCK_BYTES, MAX_ROW_BYTES, NOT_UTF8, TOO_LONG, bad_row, cut
from pipeline.formats.source import Block, Rows, Source, check_columns

COMPRESSION_RATIO = 3  # what text shrinks by, roughly: to guess the size of a compressed file's content
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Text:
    """Plain text: each line, blank ones too, is a row with one column."""

    def schema(self, source: Source) -> pa.Schema:
        return pa.schema([("text", pa.string())])

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        return byte_blocks(source)

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        check_columns(source, self.schema(source), schema)
        for block in line_blocks(source, start, stop):
            rows = bad_row(TOO_LONG, schema) if block is None else _split(block, schema)
            yield from cut(rows, batch_rows)


def _split(block: bytes, schema: pa.Schema) -> Rows:
    body = block.replace(b"\r\n", b"\n").removesuffix(b"\n")
    lines = pc.split_pattern(pa.array([body], pa.large_binary()), "\n").values
    errors: dict[int, str] = {}
    try:
        texts = lines.cast(schema.types[0])
    except pa.ArrowInvalid:
        texts = pa.array([_decoded(line, row, errors) for row, line in enumerate(lines.to_pylist())], schema.types[0])
    return Rows(batch=pa.RecordBatch.from_arrays([texts] * len(schema), schema=schema), errors=errors)


def _decoded(line: bytes, row: int, errors: dict[int, str]) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        errors[row] = f"{NOT_UTF8}: byte {error.start}"
        return None


def byte_blocks(source: Source) -> Iterator[Block]:
    """A file of lines as one block: divisible by bytes unless it is compressed."""
    size = source.file.size_bytes
    if size == 0:
        return
    if source.file.compression is None:
        yield Block(start=0, stop=size, num_rows=None, size_bytes=size, divisible=True)
    else:
        yield Block(start=0, stop=None, num_rows=None, size_bytes=size * COMPRESSION_RATIO)


def line_blocks(source: Source, start: int, stop: int | None) -> Iterator[bytes | None]:
    """The lines whose first byte lies in the range, in blocks of about `BLOCK_BYTES`; None for a line that is too long.

    Blocks end with a newline, except perhaps the last one.
    """
    with source.open_decompressed() as file:
        if start > 0:
            start = _seek_to_line(file, start)
        is_first = start == 0
        for block in _blocks(file, None if stop is None else stop - start):
            if is_first and block is not None:
                block = block.removeprefix(BYTE_ORDER_MARK)
            if block != b"":
                yield block
            is_first = False


def _seek_to_line(file: BinaryIO, place: int) -> int:
    """Moves to the first byte of the first line that begins at `place` or later, and gives its place."""
    place -= 1  # a newline just before `place` means that a line begins there
    file.seek(place)
    while chunk := file.read(BLOCK_BYTES):
        if (found := chunk.find(b"\n")) >= 0:
            place += found + 1
            break
        place += len(chunk)
    file.seek(place)
    return place


def _blocks(file: BinaryIO, limit: int | None) -> Iterator[bytes | None]:
    """Whole lines that begin within `limit` bytes from here; the file stands at the beginning of a line."""
    line = b""  # the line under way, as far as it is read; it has no newline
    line_start = 0  # from where the file stood
    unread = b""
    while limit is None or line_start < limit:
        chunk = unread or file.read(BLOCK_BYTES)
        unread = b""
        if not chunk:
            if line:
                yield line
            return
        if len(line) + max(chunk.find(b"\n"), 0) > MAX_ROW_BYTES:
            yield None
            skipped, unread = skip_line(file, chunk)
            line_start += len(line) + skipped
            line = b""
            continue
        stop = chunk.rfind(b"\n") + 1
        if limit is not None and line_start + len(line) + len(chunk) >= limit:
            # The last line of ours is the one that holds the last byte before the limit.
            last = chunk.find(b"\n", max(0, limit - 1 - line_start - len(line))) + 1
            stop = last or stop
        if stop:
            yield line + chunk[:stop]
            line_start += len(line) + stop
            line = b""
            if limit is not None and line_start >= limit:
                return
        line += chunk[stop:]


def skip_line(file: BinaryIO, chunk: bytes) -> tuple[int, bytes]:
    """Reads on to the end of the line; gives how many bytes of it there were from `chunk` on, and what follows them."""
    skipped = 0
    while chunk:
        if (found := chunk.find(b"\n")) >= 0:
            return skipped + found + 1, chunk[found + 1 :]
        skipped += len(chunk)
        chunk = file.read(BLOCK_BYTES)
    return skipped, b""
