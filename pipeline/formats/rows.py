"""Parsing blocks of textual rows: all at once where that works, and otherwise so that one bad row costs one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats.source import Rows, conformed, is_text

BLOCK_BYTES = 1 << 20  # read at a time
BLOCK_ROWS = 1 << 14  # parsed at a time, that a block of tiny or of bad rows takes neither much memory nor minutes
BATCH_BYTES = 16 << 20  # of the columns that are read: batches of large documents have fewer rows
MAX_ROW_BYTES = 64 << 20  # a longer row is not read into memory; it becomes one row with an error
NOT_UTF8 = "the row is not valid UTF-8"
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


def checked(batch: pa.RecordBatch, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
    """Rows of a format that says how it is to be read, but is not to be believed.

    Texts become plain ones a few rows at a time: thousands of rows may share one long value. A row with a text that is
    not UTF-8, or is too long, becomes nulls with a reason.

    Raises:
        pa.ArrowException: it is damaged otherwise; to read it would be to read what lies beside it in memory.
    """
    batch = batch.select(schema.names)
    sound = _is_utf8(batch)
    if not sound:  # which may not be all that is wrong
        _is_utf8(pa.RecordBatch.from_arrays([_as_bytes(column) for column in batch.columns], batch.schema.names))
    for first in range(0, batch.num_rows, batch_rows):
        for part, sizes in _fitting(batch.slice(first, batch_rows)):
            if sound and int(sizes.max()) <= MAX_ROW_BYTES:
                yield Rows(batch=conformed(part, schema))
            else:
                yield _without_bad(part, sizes, schema)


def _is_utf8(batch: pa.RecordBatch) -> bool:
    """Whether all texts are; raises `pa.ArrowException` if something else is wrong."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        return False
    return True


def _as_bytes(texts: pa.Array) -> pa.Array:
    """The same values, of a type that need not be UTF-8; columns that hold no texts as they are."""
    kind = texts.type
    if not is_text(kind):
        return texts
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(texts.indices, _as_bytes(texts.dictionary), safe=False)
    if pa.types.is_string_view(kind):
        return texts.view(pa.binary_view())
    return texts.view(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())


def _fitting(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
    """Cuts so that texts take no more than `BATCH_BYTES` but for single rows; with the bytes of each row."""
    sizes = _text_bytes(batch)
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        yield batch.slice(start, stop - start), sizes[start:stop]
        start = stop


def _without_bad(batch: pa.RecordBatch, sizes: npt.NDArray[np.int64], schema: pa.Schema) -> Rows:
    def parse(start: int, stop: int) -> pa.RecordBatch:
        if int(sizes[start:stop].max()) > MAX_ROW_BYTES:
            raise ValueError(TOO_LONG)
        rows = conformed(batch.slice(start, stop - start), schema)
        rows.validate(full=True)
        return rows

    return parse_rows(
        batch.num_rows, parse, lambda row: TOO_LONG if int(sizes[row]) > MAX_ROW_BYTES else NOT_UTF8, schema
    )


def _text_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Bytes of each row's texts, as plain ones."""
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        if is_text(column.type):
            total += pc.fill_null(_lengths(column), 0).to_numpy(zero_copy_only=False)
    return total


def _lengths(texts: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(texts.type):
        return _lengths(texts.dictionary).take(texts.indices)
    if pa.types.is_string_view(texts.type):  # Arrow has no such function for them: each view begins with it
        views = np.frombuffer(texts.buffers()[1], dtype=np.int32)[
            4 * texts.offset : 4 * (texts.offset + len(texts)) : 4
        ]
        return pa.array(views, mask=texts.is_null().to_numpy(zero_copy_only=False))
    return pc.binary_length(texts)


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
