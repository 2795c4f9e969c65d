"""Reading a piece: its rows in order, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.columns import select_columns
from pipeline.formats import FORMATS
from pipeline.formats.source import Rows, Source
from pipeline.units import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Rows as they were read. The columns have the same length and order."""

    texts: pa.LargeStringArray
    pairs: pa.LargeStringArray | None = None
    kept: pa.RecordBatch  # the kept columns; it may have none
    errors: dict[int, str] = field(default_factory=dict)  # row here -> why it could not be parsed; it is null in all
    first_row: int = 0  # place in the piece of the first row


def read_piece(
    piece: Piece,
    *,
    text: str,
    text_pair: str | None = None,
    keep: Sequence[str] = (),
    schema: pa.Schema | None = None,
    storage_options: Mapping[str, Any] | None = None,
    batch_rows: int = 4096,
) -> Iterator[RawBatch]:
    """Streams the rows of a piece. Memory depends on the batch, not on the piece or the file.

    Args:
        schema: from `planner.input_schema`, the types that hold for the whole job; None takes them from this file.
        batch_rows: most rows in a batch; where rows are large there are fewer.

    Raises:
        FileChanged: the file is not the one that was planned.
        FileUnreadable: it is damaged, or its columns are not those of the job's other files.
        ColumnError: `schema` is None, and the file has no such column of text.
        StorageError: storage refused, or was not available for too long.
    """
    source = Source.of(piece.file, storage_options or {})
    file_format = FORMATS[piece.file.format]
    with source.reading():
        source.check_unchanged()
        found = file_format.schema(source) if schema is None else schema
        if not found.names:  # not one row of it could be read: any types will do for the nulls
            found = pa.schema([(name, pa.string()) for name in (text, text_pair, *keep) if name is not None])
        wanted = select_columns(found, text=text, text_pair=text_pair, keep=keep, where=source.url)
        first_row = 0
        for rows in file_format.read(source, piece.start, piece.stop, wanted, batch_rows):
            yield _raw_batch(rows, text, text_pair, keep, first_row)
            first_row += rows.batch.num_rows


def _raw_batch(rows: Rows, text: str, text_pair: str | None, keep: Sequence[str], first_row: int) -> RawBatch:
    batch = rows.batch
    return RawBatch(
        texts=batch.column(text).cast(pa.large_string()),
        pairs=None if text_pair is None else batch.column(text_pair).cast(pa.large_string()),
        kept=batch.select(list(keep)),
        errors=rows.errors,
        first_row=first_row,
    )
