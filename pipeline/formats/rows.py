"""Parsing blocks of textual rows: all at once where that works, and otherwise so that one bad row costs one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from pipeline.formats.source import Rows

BLOCK_BYTES = 4 << 20  # read and parsed at a time
MAX_ROW_BYTES = 64 << 20  # a longer row is not read into memory; it becomes one row with an error
TOO_LONG = f"the row is longer than {MAX_ROW_BYTES >> 20} MiB"


def parse_rows(
    num_rows: int, parse: Callable[[int, int], pa.RecordBatch], explain: Callable[[int], str], schema: pa.Schema
) -> Rows:
    """Parses rows, those that cannot be parsed become nulls with a reason.

    A range that fails is halved until the bad rows stand alone, so that every row is parsed by the same code whatever
    its neighbours are, and a few bad rows cost a few more calls.

    Args:
        parse: gives the rows `i:j` with the columns of `schema`, or raises ValueError; a wrong number of rows
            counts as failure.
        explain: says what is wrong with one row, without quoting it.
    """
    good: list[pa.RecordBatch] = []
    errors: dict[int, str] = {}
    ranges = [(0, num_rows)] if num_rows else []
    while ranges:
        start, stop = ranges.pop()
        try:
            batch = parse(start, stop)
        except ValueError:
            batch = None
        if batch is not None and batch.num_rows == stop - start:
            good.append(batch)
        elif stop - start == 1:
            errors[start] = explain(start)
        else:
            middle = (start + stop) // 2
            ranges += [(middle, stop), (start, middle)]
    if not errors and len(good) == 1:
        return Rows(batch=good[0])
    parsed = pa.concat_batches(good) if good else pa.RecordBatch.from_pylist([], schema=schema)
    return Rows(batch=_with_nulls(parsed, num_rows, errors, schema), errors=errors)


def infer_rows(num_rows: int, parse: Callable[[int, int], pa.RecordBatch]) -> pa.Schema:
    """The columns of some rows, with types that hold most of them; rows that cannot be parsed are passed over.

    Args:
        parse: as for `parse_rows`, with columns and types as the rows suggest them.
    """
    found = pa.schema([])
    ranges = [(0, num_rows)] if num_rows else []
    while ranges:
        start, stop = ranges.pop()
        try:
            found = _merged(found, parse(start, stop).schema)
        except ValueError:
            if stop - start > 1:
                middle = (start + stop) // 2
                ranges += [(middle, stop), (start, middle)]
    return pa.schema([(column.name, _settled(column.type)) for column in found])


def _with_nulls(parsed: pa.RecordBatch, num_rows: int, errors: dict[int, str], schema: pa.Schema) -> pa.RecordBatch:
    bad = np.zeros(num_rows, dtype=bool)
    bad[list(errors)] = True
    places = pa.array(np.cumsum(~bad) - 1, mask=bad)
    return pa.RecordBatch.from_arrays([parsed.column(name).take(places) for name in schema.names], schema=schema)


def bad_row(reason: str, schema: pa.Schema) -> Rows:
    """One row of nulls with a reason."""
    columns = [pa.nulls(1, column.type) for column in schema]
    return Rows(batch=pa.RecordBatch.from_arrays(columns, schema=schema), errors={0: reason})


def cut(rows: Rows, batch_rows: int) -> Iterator[Rows]:
    """Cuts into batches of at most `batch_rows` rows."""
    if rows.batch.num_rows <= batch_rows:
        if rows.batch.num_rows:
            yield rows
        return
    for first in range(0, rows.batch.num_rows, batch_rows):
        batch = rows.batch.slice(first, batch_rows)
        errors = {row - first: why for row, why in rows.errors.items() if first <= row < first + batch_rows}
        yield Rows(batch=batch, errors=errors)


def _settled(inferred: pa.DataType) -> pa.DataType:
    """The type that is fixed for the job, from what one block suggests.

    Dates and times stay text: a value that only looks like one would fail, and text loses nothing. So do columns in
    which the block has nothing but nulls, and text in a wrong encoding.
    """
    if pa.types.is_temporal(inferred) or pa.types.is_null(inferred) or pa.types.is_binary(inferred):
        return pa.string()
    if pa.types.is_list(inferred):
        return pa.list_(_settled(inferred.value_type))
    if pa.types.is_struct(inferred):
        return pa.struct([pa.field(child.name, _settled(child.type)) for child in inferred])
    return inferred


def _merged(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """What two parts of a block suggest together: a text where they disagree and one is a text, else the first."""
    kinds = {column.name: column.type for column in first}
    for column in second:
        kinds[column.name] = _merged_type(kinds.get(column.name, pa.null()), column.type)
    return pa.schema(list(kinds.items()))


def _merged_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first.equals(second) or pa.types.is_null(second):
        return first
    if pa.types.is_null(first) or (pa.types.is_integer(first) and pa.types.is_floating(second)):
        return second
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(_merged_type(first.value_type, second.value_type))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return pa.struct(list(_merged(pa.schema(list(first)), pa.schema(list(second)))))
    return second if pa.types.is_string(second) else first


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table of any number of chunks as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
