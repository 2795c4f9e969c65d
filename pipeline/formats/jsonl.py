"""JSON Lines: one object a line; blank lines are no rows.

A row that lacks a column is null there, as nothing but the rows says what columns there are.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pj

from pipeline.formats.lines import BYTE_ORDER_MARK, byte_blocks, line_blocks
from pipeline.formats.rows import BLOCK_ROWS, NOT_UTF8, TOO_LONG, bad_row, cut, infer_rows, one_batch, parse_rows
from pipeline.formats.source import Block, Rows, Source, is_text

MAX_DEPTH = 1000  # Arrow would overflow its stack on types nested much deeper than this

_BLANKS = b" \t\r"

Places = npt.NDArray[np.int64]  # offsets into a block


class JsonLines:
    def schema(self, source: Source) -> pa.Schema:
        _check_is_lines(source)
        for block in line_blocks(source, 0, None):
            for lines in _Lines(block or b"").parts():
                if (found := lines.inferred()).names:
                    return found
        return pa.schema([])

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        _check_is_lines(source)
        return byte_blocks(source)

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        for block in line_blocks(source, start, stop):
            if block is None:
                yield bad_row(TOO_LONG, schema)
                continue
            for lines in _Lines(block).parts():
                yield from cut(lines.rows(schema), batch_rows)


def _check_is_lines(source: Source) -> None:
    """Files named `.json` may hold one JSON value instead of lines: said once, before every single line fails."""
    if re.search(r"\.json(\.\w+)?$", source.url):
        with source.open_decompressed() as file:
            if file.read(64).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"["):
                raise source.unreadable("it is one JSON array; JSON Lines has one object a line. Convert it first.")


class _Lines:
    """The lines of a block that are not blank."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._is_utf8 = _is_utf8(block)
        letters = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(letters == ord("\n"))
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(block))
        starts = np.append(0, ends[:-1] + 1)
        inside = starts < ends
        starts, ends = starts[inside], ends[inside]
        plain = _are_objects(letters, starts, ends)
        if not plain.all():  # blanks around objects are rare enough to be looked at one by one
            starts, ends = _trimmed(block, starts, ends)
            plain = _are_objects(letters, starts, ends)
        self._starts, self._ends, self._could_be_object = starts, ends, plain

    def rows(self, schema: pa.Schema) -> Rows:
        return parse_rows(
            len(self._starts), lambda i, j: self._parse(i, j, schema), lambda i: self._explain(i, schema), schema
        )

    def inferred(self) -> pa.Schema:
        return infer_rows(len(self._starts), lambda i, j: self._parse(i, j, None))

    def parts(self) -> Iterator[_Lines]:
        """The lines in order, `BLOCK_ROWS` at a time."""
        for first in range(0, len(self._starts), BLOCK_ROWS):
            part = copy.copy(self)
            chosen = slice(first, first + BLOCK_ROWS)
            part._starts, part._ends = self._starts[chosen], self._ends[chosen]
            part._could_be_object = self._could_be_object[chosen]
            yield part

    def _parse(self, start: int, stop: int, schema: pa.Schema | None) -> pa.RecordBatch:
        """Parses the lines `start:stop`; with a schema, what it does not name is passed over.

        Raises:
            ValueError: a line is not JSON, not UTF-8, or does not fit the schema.
        """
        # Arrow reads one object after another, whatever newlines there are, and crashes on a `null` in their place.
        # Lines with the right bracket at both ends rule that out: no object can reach from one into the next.
        if not self._could_be_object[start:stop].all():
            raise ValueError("not an object")
        body = memoryview(self._block)[self._starts[start] : self._ends[stop - 1]]
        if not self._is_utf8 and not _is_utf8(body):
            raise ValueError("not UTF-8")
        if schema is None and _depth(body) > MAX_DEPTH:
            raise ValueError("nested too deep")
        return one_batch(
            pj.read_json(
                pa.BufferReader(pa.py_buffer(body)),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(body) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=schema,
                    newlines_in_values=False,
                    unexpected_field_behavior="infer" if schema is None else "ignore",
                ),
            )
        )

    def _explain(self, row: int, schema: pa.Schema) -> str:
        line = self._block[self._starts[row] : self._ends[row]]
        try:
            value = json.loads(line.decode())
        except UnicodeDecodeError as error:
            return f"{NOT_UTF8}: byte {error.start}"
        except json.JSONDecodeError as error:
            return f"the line is not JSON: {error.msg} at character {error.pos}"
        except (ValueError, RecursionError) as error:
            return f"the line is JSON that cannot be read: {type(error).__name__}"
        if not isinstance(value, dict):
            return f"the line is JSON, but no object: found {_kind(value)}"
        for column in schema:
            cell = value.get(column.name)
            try:
                _Lines(json.dumps({column.name: cell}).encode())._parse(0, 1, pa.schema([column]))
            except ValueError:
                if isinstance(cell, str) and is_text(column.type):
                    return f"the column {column.name} holds half of a surrogate pair, which is no Unicode text"
                return f"the column {column.name} does not fit: expected {column.type}, found {_kind(cell)}"
        return "the line is JSON that cannot be read as one row: is a key given twice?"


def _are_objects(letters: npt.NDArray[np.uint8], starts: Places, ends: Places) -> npt.NDArray[np.bool_]:
    """Which lines have the brackets of an object at both ends."""
    at_both_ends: npt.NDArray[np.bool_] = (letters[starts] == ord("{")) & (letters[ends - 1] == ord("}"))
    return at_both_ends


def _trimmed(block: bytes, starts: Places, ends: Places) -> tuple[Places, Places]:
    """Leaves out blanks at both ends of lines, and lines of nothing else."""
    places = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        line = block[start:end]
        begin = start + len(line) - len(line.lstrip(_BLANKS))
        if begin < end:
            places.append((begin, start + len(line.rstrip(_BLANKS))))
    trimmed = np.array(places, dtype=np.int64).reshape(-1, 2)
    return trimmed[:, 0], trimmed[:, 1]


def _is_utf8(text: bytes | memoryview) -> bool:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _depth(text: memoryview) -> int:
    """How deep objects and lists are nested, brackets in strings included."""
    letters = np.frombuffer(text, dtype=np.uint8)
    opened = (letters == ord("{")) | (letters == ord("["))
    closed = (letters == ord("}")) | (letters == ord("]"))
    return int(np.cumsum(opened.astype(np.int64) - closed).max(initial=0))


def _kind(value: object) -> str:
    """What JSON calls this value."""
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
