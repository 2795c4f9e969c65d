"""Cutting files into units of about the same size, in input order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import xxhash

from pipeline.ahead import map_ahead
from pipeline.columns import select_columns
from pipeline.errors import FileUnreadable, InputNotFound, StorageNotFound
from pipeline.formats import FORMATS
from pipeline.formats.source import Block, Source
from pipeline.listing import fixed_part, list_files
from pipeline.options import InputOptions
from pipeline.storage import Storage
from pipeline.units import InputFile, Piece, Unit

__all__ = ["BadFile", "input_schema", "list_files", "plan_units"]

logger = logging.getLogger(__name__)

MAX_PIECES = 100  # in a unit, so that its description stays small however small the files are


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFile:
    """A file that cannot be planned: it is damaged, or not what it says."""

    file: InputFile
    reason: str


def input_schema(files: Iterable[InputFile], source: InputOptions, keep: Sequence[str] = ()) -> pa.Schema:
    """The columns that the job reads (text, text pair, kept ones), with the types of the first file that can be read.

    Raises:
        InputNotFound: there is no file with rows.
        ColumnError: that file lacks a column, or a text column holds no text.
        FileUnreadable: none of the files can be read.
    """
    bad: FileUnreadable | None = None
    for file in files:
        try:
            found = FORMATS[file.format].schema(Source.of(file, source.storage))
        except FileUnreadable as error:
            logger.warning("%s", error)
            bad = bad or error
            continue
        if not found.names:
            continue  # without a header, and not one row that can be read
        if file.format == "csv":  # all its values are text, also those that look like numbers
            texts = (source.text, source.text_pair)
            found = pa.schema([(c.name, pa.string() if c.name in texts else c.type) for c in found])
        return select_columns(found, text=source.text, text_pair=source.text_pair, keep=keep, where=file.url)
    if bad is not None:
        raise bad
    raise InputNotFound(f"input.url: no row that can be read in {', '.join(source.url)}.")


def plan_units(
    files: Iterable[InputFile], source: InputOptions, *, unit_bytes: int, plan_number: int = 0, job: str = ""
) -> Iterator[Unit | BadFile]:
    """Cuts large files, puts small ones of the same format together; streams.

    The same files and arguments give the same units with the same names.

    Args:
        unit_bytes: of text in a unit; a row group or record batch that is larger is a unit of its own.
        plan_number: how many plans of this job came before; part of the units' names.
        job: what tells the job apart from others of the same input; part of the names too. So a worker that outlived
            another job's driver does not commit in place of ours, should we have overwritten that job.
    """
    texts = [source.text] if source.text_pair is None else [source.text, source.text_pair]
    roots = [fixed_part(Storage.open(url, source.storage).url)[0] for url in source.url]

    def measured(file: InputFile) -> tuple[InputFile, list[Block] | BadFile]:
        try:
            return file, list(FORMATS[file.format].blocks(Source.of(file, source.storage), texts))
        except (FileUnreadable, StorageNotFound) as error:
            return file, BadFile(file=file, reason=str(error))

    num_units = 0
    held: list[Piece] = []
    held_bytes = 0
    for file, blocks in map_ahead(measured, files):
        if isinstance(blocks, BadFile):
            yield blocks
            continue
        # A unit has files that are whole, or some of one: a file that changes takes no part of another one with it.
        size_bytes = sum(block.size_bytes for block in blocks)
        full = held_bytes + size_bytes > unit_bytes or len(held) >= MAX_PIECES
        if held and (full or held[-1].file.format != file.format):
            yield _unit(held, held_bytes, roots, plan_number, num_units, job)
            num_units += 1
            held, held_bytes = [], 0
        for block in _cut(blocks, unit_bytes):
            if held and held_bytes + block.size_bytes > unit_bytes:
                yield _unit(held, held_bytes, roots, plan_number, num_units, job)
                num_units += 1
                held, held_bytes = [], 0
            _append(held, file, block)
            held_bytes += block.size_bytes
        if held and size_bytes > unit_bytes:
            yield _unit(held, held_bytes, roots, plan_number, num_units, job)
            num_units += 1
            held, held_bytes = [], 0
    if held:
        yield _unit(held, held_bytes, roots, plan_number, num_units, job)


def _cut(blocks: Iterable[Block], unit_bytes: int) -> Iterator[Block]:
    """Cuts divisible blocks into the fewest even parts that fit."""
    for block in blocks:
        if not block.divisible:
            yield block
            continue
        num_parts = -(-block.size_bytes // unit_bytes)
        places = [block.start + block.size_bytes * part // num_parts for part in range(num_parts + 1)]
        for start, stop in pairwise(places):
            yield replace(block, start=start, stop=stop, size_bytes=stop - start)


def _append(pieces: list[Piece], file: InputFile, block: Block) -> None:
    """Adds a block, to the last piece where it follows on that."""
    last = pieces[-1] if pieces else None
    if last is None or last.file is not file:
        pieces.append(Piece(file=file, start=block.start, stop=block.stop, num_rows=block.num_rows))
        return
    unknown = last.num_rows is None or block.num_rows is None
    num_rows = None if unknown else (last.num_rows or 0) + (block.num_rows or 0)
    pieces[-1] = replace(last, stop=block.stop, num_rows=num_rows)


def _unit(
    pieces: Sequence[Piece], size_bytes: int, roots: Sequence[str], plan_number: int, index: int, job: str
) -> Unit:
    digest = xxhash.xxh3_64(job.encode())
    for piece in pieces:
        place = _relative(piece.file.url, roots)
        digest.update(f"{place}\n{piece.file.fingerprint}\n{piece.start}-{piece.stop}\n".encode())
    name = f"{plan_number:05d}-{index:06d}-{digest.hexdigest()[:8]}"
    return Unit(name=name, pieces=tuple(pieces), size_bytes=size_bytes)


def _relative(url: str, roots: Sequence[str]) -> str:
    """The URL below the longest of the given ones, so that names outlive a move of the whole input."""
    root = max((root for root in roots if url.startswith(root)), key=len, default="")
    return url[len(root) :]
