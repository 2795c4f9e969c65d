"""CSV with a header, read from the beginning to the end: quoted values may hold newlines, so it cannot be cut.

Empty lines are no rows.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.formats.lines import BYTE_ORDER_MARK, COMPRESSION_RATIO, skip_line
from pipeline.formats.rows import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    bad_row,
    cut,
    infer_rows,
    one_batch,
    parse_rows,
)
from pipeline.formats.source import Block, Rows, Source, check_columns

UNCLOSED = "a quote opens in this line and is never closed"

# A quoted value, which can begin only where a value begins, with its closing quote if there is one; or a line's end.
_QUOTED_OR_NEWLINE = re.compile(rb'(?:\A|(?<=[,\n]))"[^"]*(?:""[^"]*)*("?)|\n')
_QUOTED = re.compile(rb'(?:\A|(?<=,))"[^"]*(?:""[^"]*)*"')


class Csv:
    def schema(self, source: Source) -> pa.Schema:
        with source.open_decompressed() as file:
            names, blocks = _header(source, _blocks(file))
            first = next((block for block in blocks if isinstance(block, _Table)), None)
        types = [pa.string()] * len(names) if first is None else first.inferred(len(names))
        return pa.schema(list(zip(names, types, strict=True)))

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        if size := source.file.size_bytes:
            ratio = COMPRESSION_RATIO if source.file.compression else 1
            yield Block(start=0, stop=None, num_rows=None, size_bytes=size * ratio)

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        with source.open_decompressed() as file:
            names, blocks = _header(source, _blocks(file))
            # Whether its values fit a type is seen row by row; only the names are the file's.
            types = [schema.field(name).type if name in schema.names else pa.string() for name in names]
            check_columns(source, pa.schema(list(zip(names, types, strict=True))), schema)
            for block in blocks:
                rows = bad_row(block, schema) if isinstance(block, str) else block.rows(names, schema)
                yield from cut(rows, batch_rows)


class _Table:
    """Some whole rows: the bytes they lie in, and where in these each begins and ends."""

    def __init__(self, body: bytes, spans: list[tuple[int, int]]) -> None:
        self._body = body
        self._spans = spans

    def split(self) -> tuple[list[str], _Table]:
        """The values of the first row, and the other rows.

        Raises:
            ValueError: the first row is not UTF-8.
        """
        start, stop = self._spans[0]
        num_values = int(self._counts[0])
        convert = pacsv.ConvertOptions(column_types=dict.fromkeys(_places(num_values), pa.string()))
        (row,) = _table(self._body[start:stop], num_values, convert).to_pylist()
        return list(row.values()), _Table(self._body, self._spans[1:])

    def inferred(self, num_columns: int) -> list[pa.DataType]:
        found = infer_rows(len(self._spans), lambda i, j: self._slice(i, j, num_columns, pacsv.ConvertOptions()))
        return found.types if found.names else [pa.string()] * num_columns

    def rows(self, names: Sequence[str], schema: pa.Schema) -> Rows:
        places = {column.name: f"{names.index(column.name)}" for column in schema}
        return parse_rows(
            len(self._spans),
            lambda i, j: self._parse(i, j, len(names), places, schema),
            lambda i: self._explain(i, len(names), places, schema),
            schema,
        )

    def _parse(
        self, start: int, stop: int, num_columns: int, places: dict[str, str], schema: pa.Schema
    ) -> pa.RecordBatch:
        """Parses the rows `start:stop`.

        Raises:
            ValueError: a row has too many or too few values, is not UTF-8, does not fit the schema, or is too long.
        """
        types = {places[column.name]: column.type for column in schema}
        convert = pacsv.ConvertOptions(column_types=types, include_columns=list(types))
        return self._slice(start, stop, num_columns, convert).rename_columns(schema.names)

    def _slice(self, start: int, stop: int, num_columns: int, convert: pacsv.ConvertOptions) -> pa.RecordBatch:
        if any(end - begin > MAX_ROW_BYTES for begin, end in self._spans[start:stop]):
            raise ValueError(TOO_LONG)
        if (self._counts[start:stop] != num_columns).any():
            raise ValueError("too many or too few values")  # said before Arrow is asked, which takes its time
        return one_batch(_table(self._body[self._spans[start][0] : self._spans[stop - 1][1]], num_columns, convert))

    def _explain(self, row: int, num_columns: int, places: dict[str, str], schema: pa.Schema) -> str:
        start, stop = self._spans[row]
        if stop - start > MAX_ROW_BYTES:
            return TOO_LONG
        if (num_values := self._counts[row]) != num_columns:
            return f"the row has {num_values} values, the header {num_columns}"
        for column in schema:
            try:
                self._parse(row, row + 1, num_columns, places, pa.schema([column]))
            except ValueError:
                what = NOT_UTF8 if pa.types.is_string(column.type) else f"its value is no {column.type}"
                return f"column {column.name}: {what}"
        return "the row cannot be read as CSV"

    @functools.cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        """How many values each row has."""
        rows = (self._body[start:stop] for start, stop in self._spans)
        commas = ((_QUOTED.sub(b"", row) if b'"' in row else row).count(b",") for row in rows)
        return np.fromiter(commas, np.int64, len(self._spans)) + 1


def _table(body: bytes, num_columns: int, convert: pacsv.ConvertOptions) -> pa.Table:
    """Rows without a header; columns are named by their place, as a header may name two alike."""
    return pacsv.read_csv(
        pa.BufferReader(body),
        read_options=pacsv.ReadOptions(use_threads=False, column_names=_places(num_columns), block_size=len(body) + 1),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )


def _places(num_columns: int) -> list[str]:
    return [str(place) for place in range(num_columns)]


def _header(source: Source, blocks: Iterator[_Table | str]) -> tuple[list[str], Iterator[_Table | str]]:
    """The column names, and the rows behind them."""
    first = next(blocks, None)
    if not isinstance(first, _Table):
        raise source.unreadable(f"it has no header: {first or 'it is empty'}.")
    try:
        names, rest = first.split()
    except ValueError as error:
        raise source.unreadable("its header is not CSV in UTF-8.") from error
    return names, itertools.chain([rest], blocks)


def _blocks(file: BinaryIO) -> Iterator[_Table | str]:
    """Whole rows in blocks of about `BLOCK_BYTES`; text stands for one row that cannot be read, and says why."""
    body = file.read(len(BYTE_ORDER_MARK)).removeprefix(BYTE_ORDER_MARK)
    at_end = has_more = False
    while body or not at_end:
        if not at_end and not has_more:
            chunk = file.read(max(BLOCK_BYTES, len(body)))
            at_end = not chunk
            body += chunk
        spans, stop = _split(body, at_end=at_end)
        if spans:
            yield _Table(body, spans)
        body = body[stop:]
        has_more = len(spans) == BLOCK_ROWS
        if body and not has_more and (at_end or len(body) > MAX_ROW_BYTES):
            # No row ends here. A quote that is never closed costs the line it stands in; a line too long, itself.
            newline = body.find(b"\n", 0, MAX_ROW_BYTES)
            if newline >= 0 or at_end:
                yield UNCLOSED
                body = body[newline + 1 :] if newline >= 0 else b""
            else:
                yield TOO_LONG
                body = skip_line(file, body)[1]


def _split(body: bytes, *, at_end: bool) -> tuple[list[tuple[int, int]], int]:
    """Finds rows that end in these bytes, which begin with a row; gives their places, and where the rest begins.

    With `BLOCK_ROWS` of them it stops.
    """
    spans = []
    start = 0
    for found in _QUOTED_OR_NEWLINE.finditer(body):
        if found[0] == b"\n":
            if body[start : found.start()] not in (b"", b"\r"):
                spans.append((start, found.start()))
            start = found.end()
            if len(spans) == BLOCK_ROWS:
                return spans, start
        elif found.end() == len(body) and not (at_end and found[1]):
            return spans, start  # the quote is open; or what looks like its end may be the first of a doubled one
    if at_end and start < len(body):
        spans.append((start, len(body)))
        start = len(body)
    return spans, start
