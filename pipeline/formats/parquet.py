"""Parquet: cut by row groups, read a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.formats.rows import BATCH_BYTES, checked
from pipeline.formats.source import Block, Rows, Source, check_columns, is_text

# Column chunks are read through buffers of this size instead of whole, so that memory does not depend on the row group.
BUFFER_BYTES = 4 << 20
FOOTER_BYTES = 64 << 10  # usually one request


class Parquet:
    def schema(self, source: Source) -> pa.Schema:
        with source.open(buffer_bytes=FOOTER_BYTES) as file:
            return pq.read_schema(file)

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        with source.open(buffer_bytes=FOOTER_BYTES) as file:
            footer = pq.read_metadata(file)
            columns = footer.schema.to_arrow_schema().names
        if missing := [name for name in texts if name not in columns]:
            raise source.unreadable(f"it has no column {', '.join(missing)}; it has {', '.join(sorted(columns))}.")
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            yield Block(start=index, stop=index + 1, num_rows=group.num_rows, size_bytes=_size(group, texts))

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        with source.open() as file:
            footer = pq.read_metadata(file)
            found = footer.schema.to_arrow_schema()
            reader = pq.ParquetFile(
                file,
                metadata=footer,
                # As dictionaries until they are cut: a long value that all rows share takes no room in the file.
                read_dictionary=[c.name for c in found if is_text(c.type)],
                buffer_size=BUFFER_BYTES,
                pre_buffer=False,
            )
            check_columns(source, found, schema)
            groups = range(start, reader.num_row_groups if stop is None else stop)
            for group in groups:
                batches = reader.iter_batches(
                    batch_size=_fitting_rows(reader.metadata.row_group(group), schema.names, batch_rows),
                    row_groups=[group],
                    columns=schema.names,
                    use_threads=False,  # the columns are few; the cores belong to the model
                )
                for batch in batches:
                    yield from checked(batch, schema, batch_rows)


def _size(group: pq.RowGroupMetaData, names: Sequence[str]) -> int:
    """Uncompressed bytes of some columns, nested ones with all their leaves."""
    columns = (group.column(index) for index in range(group.num_columns))
    return sum(int(c.total_uncompressed_size) for c in columns if c.path_in_schema.partition(".")[0] in names)


def _fitting_rows(group: pq.RowGroupMetaData, names: Sequence[str], batch_rows: int) -> int:
    """As many rows as have about `BATCH_BYTES`, and `batch_rows` at most."""
    num_rows = int(group.num_rows)
    return max(1, min(batch_rows, num_rows * BATCH_BYTES // max(_size(group, names), 1)))
