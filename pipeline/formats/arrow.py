"""Arrow IPC, file and stream: cut between record batches, whose places are found without reading their bodies.

Both kinds are a run of messages; the file kind has a magic before it and a footer behind. A message is

    FF FF FF FF | int32: bytes of metadata | metadata (a flatbuffer `Message`) | body

and the metadata tells what it is, how long its body is, and how many rows a record batch has. (Apache Arrow columnar
format, "Encapsulated message format"; the flatbuffer tables are in the specification's `Message.fbs`.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from pipeline.formats.rows import checked
from pipeline.formats.source import Block, Rows, Source, check_columns

MAGIC = b"ARROW1"
MAP_BYTES = 64 << 20  # record batches of local files larger than this are mapped instead of read
METADATA_BUFFER_BYTES = 64 << 10  # one request for several small messages, little waste before large ones
MAX_EXPANDED_BYTES = 1 << 30  # of a compressed record batch, which cannot be expanded in parts

_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _RECORD_BATCH = 1, 2, 3  # enum MessageHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """Where a message lies in the file, in bytes."""

    kind: int
    start: int
    stop: int
    num_rows: int  # 0 unless it is a record batch
    compressed: tuple[int, ...]  # where its buffers begin, from the beginning of the message, if they are compressed


class Arrow:
    """Both kinds; pieces count bytes, from the beginning of one message to that of another."""

    def schema(self, source: Source) -> pa.Schema:
        with source.open(buffer_bytes=METADATA_BUFFER_BYTES) as file:
            return _read_schema(source, file)

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        if source.file.size_bytes == 0:
            raise source.unreadable("it is empty, without even a schema.")
        with source.open(buffer_bytes=METADATA_BUFFER_BYTES) as file:
            messages = list(_messages(source, file))
        batches = [message for message in messages if message.kind == _RECORD_BATCH]
        if any(message.kind == _DICTIONARY for message in messages):
            # A dictionary serves the batches behind it, and later ones may change it: such a file is read in one go.
            num_rows = sum(batch.num_rows for batch in batches)
            yield Block(start=0, stop=None, num_rows=num_rows, size_bytes=source.file.size_bytes)
            return
        start = 0
        for batch in batches:
            yield Block(start=start, stop=batch.stop, num_rows=batch.num_rows, size_bytes=batch.stop - batch.start)
            start = batch.stop

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        with source.open() as file:
            found = _read_schema(source, file)
            check_columns(source, found, schema)
            if start == 0 and stop is None:
                batches = _read_all(source, file)
            else:
                batches = _read_range(source, file, found, start, stop)
            for batch in batches:
                yield from checked(batch, schema, batch_rows)


def _read_all(source: Source, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    for message in _messages(source, file):
        if message.compressed:
            _check_expanded(source, message, _read_bytes(file, message))
    file.seek(0)
    if source.file.format == "arrow-stream":
        yield from pa.ipc.open_stream(file)
        return
    reader = pa.ipc.open_file(file)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _read_range(
    source: Source, file: BinaryIO, schema: pa.Schema, start: int, stop: int | None
) -> Iterator[pa.RecordBatch]:
    for message in _messages(source, file, start, stop):
        if message.kind == _RECORD_BATCH:
            yield pa.ipc.read_record_batch(_read_message(source, file, message), schema)


def _read_message(source: Source, file: BinaryIO, message: _Message) -> pa.Message:
    size = message.stop - message.start
    if source.storage.is_local and size > MAP_BYTES:
        with pa.memory_map(source.url) as mapped:
            mapped.seek(message.start)
            return pa.ipc.read_message(mapped.read_buffer(size))
    content = _read_bytes(file, message)
    _check_expanded(source, message, content)
    return pa.ipc.read_message(pa.py_buffer(content))


def _read_bytes(file: BinaryIO, message: _Message) -> bytes:
    file.seek(message.start)
    return file.read(message.stop - message.start)


def _check_expanded(source: Source, message: _Message, content: bytes) -> None:
    """Raises `FileUnreadable` if a message says that its buffers expand too far: each begins with its size."""
    num_bytes = 0
    for place in message.compressed:
        num_bytes += max(0, struct.unpack_from("<q", content, place)[0])  # -1: this one is as it is
    if num_bytes > MAX_EXPANDED_BYTES:
        raise source.unreadable(
            f"a record batch at byte {message.start} expands to {num_bytes} bytes, more than the "
            f"{MAX_EXPANDED_BYTES >> 20} MiB that are read at once. Write it in smaller record batches."
        )


def _read_schema(source: Source, file: BinaryIO) -> pa.Schema:
    first = next(_messages(source, file), None)
    if first is None or first.kind != _SCHEMA:
        raise source.unreadable("it does not begin with a schema.")
    return pa.ipc.read_schema(_read_message(source, file, first))


def _messages(source: Source, file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[_Message]:
    """Finds the messages in a range, by reading their metadata alone."""
    place, end = start, source.file.size_bytes
    if source.file.format == "arrow" and start == 0:
        _check_ends(source, file)
        place = 8  # the magic and its padding
    while place < (end if stop is None else stop):
        file.seek(place)
        prefix = file.read(8)
        if len(prefix) < 8:
            raise source.unreadable(f"it is cut off at byte {end}, in the middle of a message.")
        marker, size = struct.unpack("<Ii", prefix)
        if marker != _CONTINUATION:
            raise source.unreadable(f"at byte {place} there should be a message, and there is none.")
        if size == 0:
            return  # the mark of the end
        metadata = file.read(size) if 0 < size <= end - place else b""  # if damaged, it may be gigabytes
        if len(metadata) < size or not metadata:
            raise source.unreadable(f"it is cut off at byte {end}, in the middle of a message.")
        kind, body_bytes, num_rows, compressed = _parse_metadata(metadata)
        if body_bytes < 0 or num_rows < 0:
            raise source.unreadable(f"the message at byte {place} has a negative length: it is damaged.")
        message = _Message(
            kind=kind,
            start=place,
            stop=place + 8 + size + body_bytes,
            num_rows=num_rows,
            compressed=tuple(8 + size + offset for offset in compressed),
        )
        if message.stop > end:
            raise source.unreadable(f"it has {end} bytes and should have {message.stop} or more: it is truncated.")
        yield message
        place = message.stop


def _check_ends(source: Source, file: BinaryIO) -> None:
    file.seek(0)
    begins = file.read(len(MAGIC)) == MAGIC
    file.seek(max(0, source.file.size_bytes - len(MAGIC)))
    if not begins or file.read(len(MAGIC)) != MAGIC:
        where = "end" if begins else "begin"
        raise source.unreadable(f"it does not {where} with {MAGIC.decode()}: it is truncated or no Arrow file.")


def _parse_metadata(metadata: bytes) -> tuple[int, int, int, list[int]]:
    """Kind, bytes of the body, rows, and where in the body compressed buffers begin; from the flatbuffer `Message`."""
    message = struct.unpack_from("<I", metadata)[0]
    kind = _field(metadata, message, 1, "<B")
    body_bytes = _field(metadata, message, 3, "<q")
    if kind not in (_DICTIONARY, _RECORD_BATCH):
        return kind, body_bytes, 0, []
    batch = _follow(metadata, message, 2)
    if kind == _DICTIONARY:
        batch = _follow(metadata, batch, 1)
    num_rows = _field(metadata, batch, 0, "<q") if kind == _RECORD_BATCH else 0
    return kind, body_bytes, num_rows, _compressed_buffers(metadata, batch)


def _compressed_buffers(metadata: bytes, batch: int) -> list[int]:
    """Where the buffers of a `RecordBatch` that are not empty begin in its body, if it is a compressed one."""
    if not _field_place(metadata, batch, 3):
        return []
    vector = _follow(metadata, batch, 2)
    (count,) = struct.unpack_from("<I", metadata, vector)
    buffers = struct.iter_unpack("<qq", metadata[vector + 4 : vector + 4 + 16 * count])
    return [offset for offset, length in buffers if length > 0]


def _follow(metadata: bytes, table: int, index: int) -> int:
    """Where the table or vector lies that a field refers to."""
    place = _field_place(metadata, table, index)
    return place + int(struct.unpack_from("<I", metadata, place)[0])


def _field(metadata: bytes, table: int, index: int, layout: str) -> int:
    """A number in a flatbuffer table; 0 where the table leaves it out."""
    place = _field_place(metadata, table, index)
    return int(struct.unpack_from(layout, metadata, place)[0]) if place else 0


def _field_place(metadata: bytes, table: int, index: int) -> int:
    """Where a field of a flatbuffer table lies, or 0: a table begins with the distance back to its list of offsets."""
    offsets = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", metadata, offsets)[0]:
        return 0
    offset = struct.unpack_from("<H", metadata, offsets + 4 + 2 * index)[0]
    return table + offset if offset else 0
