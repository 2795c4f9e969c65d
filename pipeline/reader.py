"""Reading a unit, or a piece of it: its rows in order, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.columns import select_columns
from pipeline.formats import FORMATS
from pipeline.formats.source import Rows, Source
from pipeline.units import Piece, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Rows as they were read. The columns have the same length and order."""

    texts: pa.LargeStringArray
    pairs: pa.LargeStringArray | None = None
    kept: pa.RecordBatch  # the kept columns; it may have none
    errors: dict[int, str] = field(default_factory=dict)  # row here -> why it could not be parsed; it is null in all
    first_row: int = 0  # place in the piece of the first row

    def slice(self, start: int, stop: int) -> RawBatch:
        """The rows from `start` to before `stop`; nothing is copied."""
        if start == 0 and stop == len(self.texts):
            return self
        return RawBatch(
            texts=self.texts.slice(start, stop - start),
            pairs=None if self.pairs is None else self.pairs.slice(start, stop - start),
            kept=self.kept.slice(start, stop - start),
            errors={row - start: reason for row, reason in self.errors.items() if start <= row < stop},
            first_row=self.first_row + start,
        )


def read_unit(
    unit: Unit,
    *,
    text: str,
    text_pair: str | None = None,
    keep: Sequence[str] = (),
    schema: pa.Schema | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[RawBatch]:
    """Streams the rows of a unit: of those that its pieces give, in order, the ones from `first_row` to `stop_row`.

    Args and errors are those of `read_piece`. What lies before or behind the unit's rows is skipped unread where the
    format tells how many rows there are, else read and dropped.
    """
    row = 0  # place of the next one among the rows of all pieces
    for piece in unit.pieces:
        if piece.num_rows is not None and row + piece.num_rows <= unit.first_row:
            row += piece.num_rows
            continue
        if unit.stop_row is not None and row >= unit.stop_row:
            return
        for batch in read_piece(
            piece,
            text=text,
            text_pair=text_pair,
            keep=keep,
            schema=schema,
            storage_options=storage_options,
            stop_row=None if unit.stop_row is None else unit.stop_row - row,
        ):
            start, stop = max(unit.first_row - row, 0), len(batch.texts)
            if start < stop:
                yield batch.slice(start, stop)
            row += stop


def read_piece(
    piece: Piece,
    *,
    text: str,
    text_pair: str | None = None,
    keep: Sequence[str] = (),
    schema: pa.Schema | None = None,
    storage_options: Mapping[str, Any] | None = None,
    batch_rows: int = 4096,
    stop_row: int | None = None,
) -> Iterator[RawBatch]:
    """Streams the rows of a piece. Memory depends on the batch, not on the piece or the file.

    Args:
        schema: from `planner.input_schema`, the types that hold for the whole job; None takes them from this file.
        batch_rows: most rows in a batch; where rows are large there are fewer.
        stop_row: gives the piece's rows before this one.

    Raises:
        FileChanged: the file is not the one that was planned, or did not stay it: no batch then is to be used.
        FileUnreadable: it is damaged, or its columns are not those of the job's other files.
        ColumnError: `schema` is None, and the file has no such column of text.
        StorageError: storage refused, or was not available for too long.
    """
    source = Source.of(piece.file, storage_options or {})
    file_format = FORMATS[piece.file.format]
    with source.reading():
        source = source.as_planned()
        found = file_format.schema(source) if schema is None else schema
        if not found.names:  # not one row of it could be read: any types will do for the nulls
            found = pa.schema([(name, pa.string()) for name in (text, text_pair, *keep) if name is not None])
        wanted = select_columns(found, text=text, text_pair=text_pair, keep=keep, where=source.url)
        first_row = 0
        for rows in file_format.read(source, piece.start, piece.stop, wanted, batch_rows):
            batch = _raw_batch(rows, text, text_pair, keep, first_row)
            first_row += len(batch.texts)
            if stop_row is not None and first_row >= stop_row:
                yield batch.slice(0, len(batch.texts) - (first_row - stop_row))
                break
            yield batch
        source.check_unchanged()


def _raw_batch(rows: Rows, text: str, text_pair: str | None, keep: Sequence[str], first_row: int) -> RawBatch:
    batch = rows.batch
    return RawBatch(
        texts=batch.column(text).cast(pa.large_string()),
        pairs=None if text_pair is None else batch.column(text_pair).cast(pa.large_string()),
        kept=batch.select(list(keep)),
        errors=rows.errors,
        first_row=first_row,
    )
