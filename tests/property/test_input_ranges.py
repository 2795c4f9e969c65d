"""However input is cut, every row comes once and in order; and a row does not depend on its neighbours."""

from __future__ import annotations

import csv as csv_module
import io
import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.formats import csv, lines
from pipeline.formats.source import Source
from pipeline.options import InputOptions
from pipeline.planner import list_files
from pipeline.reader import read_piece
from pipeline.units import Piece
from tests.support.corpora import planned, read_units, rows_of, whole

BLOCKS = st.sampled_from([1, 2, 3, 7, 50, 1 << 20])
LINES = st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12), max_size=20)
AWKWARD_BYTES = st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"bc", b"\xff", b"\xc3\xa9", b" "]), max_size=60)


@contextmanager
def file_with(content: bytes, name: str) -> Iterator[InputOptions]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        yield InputOptions(url=f"{folder}/{name}")


@contextmanager
def blocks_of(num_bytes: int, max_row_bytes: int = 1 << 26) -> Iterator[None]:
    with (
        patch.object(lines, "BLOCK_BYTES", num_bytes),
        patch.object(csv, "BLOCK_BYTES", num_bytes),
        patch.object(lines, "MAX_ROW_BYTES", max_row_bytes),
        patch.object(csv, "MAX_ROW_BYTES", max_row_bytes),
    ):
        yield


def cut_into_pieces(size: int, cuts: list[int]) -> list[tuple[int, int]]:
    places = sorted({0, size, *(cut % (size + 1) for cut in cuts)})
    return list(itertools.pairwise(places))


@given(AWKWARD_BYTES, st.lists(st.integers(0, 1000), max_size=8), BLOCKS)
def test_any_cut_gives_every_line_once_and_in_order(parts: list[bytes], cuts: list[int], block_bytes: int) -> None:
    content = b"".join(parts)
    with file_with(content, "x.txt") as source, blocks_of(block_bytes):
        (file,) = list_files(source)
        found = [
            list(lines.line_blocks(Source.of(file, {}), start, stop))
            for start, stop in cut_into_pieces(len(content), cuts)
        ]
    # Blocks are whole lines, so that put together they are the file, and each begins where a line begins.
    assert b"".join(block or b"" for blocks in found for block in blocks) == content
    assert all(block is not None for blocks in found for block in blocks)
    ends = [block for blocks in found for block in blocks if block]
    assert all(block.endswith(b"\n") for block in ends[:-1])


@given(LINES, st.integers(1, 60), BLOCKS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_text_gives_every_line(texts: list[str], unit_bytes: int, block_bytes: int, newline: str, ends: bool) -> None:
    content = newline.join(texts) + (newline if ends and texts else "")
    # Without a newline behind it, a last line of nothing is none.
    expected = texts if ends or not texts or texts[-1] else texts[:-1]
    assume(not content.startswith("\ufeff"))
    with file_with(content.encode(), "x.txt") as source, blocks_of(block_bytes):
        units, _ = planned(source, unit_bytes=unit_bytes)
        assert [row["text"] for row in read_units(units, source, batch_rows=3)] == expected


@given(LINES, st.integers(1, 200), BLOCKS)
def test_json_lines_give_every_row(texts: list[str], unit_bytes: int, block_bytes: int) -> None:
    rows = [{"text": text, "n": number} for number, text in enumerate(texts)]
    content = "".join(json.dumps(row, ensure_ascii=len(row["text"]) % 2 == 0) + "\n" for row in rows)  # type: ignore
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    with file_with(content.encode(), "x.jsonl") as source, blocks_of(block_bytes):
        units, _ = planned(source, unit_bytes=unit_bytes)
        found = read_units(units, source, schema=schema, keep=["n"], batch_rows=4)
    assert found == [row | {"error": None} for row in rows]


JSON_LINES = st.one_of(
    st.builds(lambda text, n: json.dumps({"text": text, "n": n}).encode(), st.text(max_size=5), st.integers(0, 9)),
    st.sampled_from(
        [
            b"{", b"}", b"null", b"{}", b"{}{}", b"{}null", b'{"text": 1}', b'{"text": "}', b'{"n": 1.5}', b'["text"]',
            b'{"n": {"n": 1}}', b'{"text": "\xff"}', b'{"text": "\\ud800"}', b'{"text": "a", "text": "b"}',
            b'{"text": [{', b'}]}', b'  {"text": "blanks"}  ', b'{"x": {"y": [1, {"z": null}]}}',
        ]
    ),
)  # fmt: skip


@given(st.lists(JSON_LINES, min_size=1, max_size=12), BLOCKS)
def test_a_json_line_does_not_depend_on_its_neighbours(rows: list[bytes], block_bytes: int) -> None:
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])

    def read(content: bytes) -> list[dict[str, Any]]:
        with file_with(content, "x.jsonl") as source:
            (file,) = list_files(source)
            return rows_of(read_piece(whole(file), text="text", keep=["n"], schema=schema))

    with blocks_of(block_bytes):
        together = read(b"\n".join(rows))
    assert together == [row for line in rows for row in read(line)]


CELLS = st.text(st.sampled_from('ab,"\n\r é'), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=15), BLOCKS)
def test_csv_gives_what_was_written(rows: list[tuple[str, str]], block_bytes: int) -> None:
    # A carriage return alone would be a newline to some readers, and an empty line no row: quoting tells both.
    sink = io.StringIO(newline="")
    writer = csv_module.writer(sink, quoting=csv_module.QUOTE_ALL)
    writer.writerows([("text", "other"), *rows])
    schema = pa.schema([("text", pa.string()), ("other", pa.string())])
    with file_with(sink.getvalue().encode(), "x.csv") as source, blocks_of(block_bytes):
        (file,) = list_files(source)
        found = rows_of(read_piece(whole(file), text="text", keep=["other"], schema=schema))
    assert [(row["text"], row["other"], row["error"]) for row in found] == [(*row, None) for row in rows]


@given(st.text(st.sampled_from('ab,,""\n\n é'), max_size=60), st.integers(8, 1 << 20))
def test_csv_of_any_kind_gives_the_same_rows_in_any_blocks(content: str, block_bytes: int) -> None:
    schema = pa.schema([("text", pa.string())])

    def read(block_bytes: int) -> list[dict[str, Any]]:
        with file_with(f"text,other\n{content}".encode(), "x.csv") as source, blocks_of(block_bytes):
            (file,) = list_files(source)
            return rows_of(read_piece(whole(file), text="text", schema=schema))

    assert read(block_bytes) == read(1 << 20)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 3000), st.sampled_from(["file", "stream"]))
def test_any_unit_size_gives_every_record_batch_once(sizes: list[int], unit_bytes: int, kind: str) -> None:
    schema = pa.schema([("text", pa.string())])
    sink = io.BytesIO()
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    texts = [f"row {number}" for number in range(sum(sizes))]
    remaining = iter(texts)
    with new(sink, schema) as writer:
        for size in sizes:
            writer.write_batch(pa.record_batch([pa.array([next(remaining) for _ in range(size)])], schema=schema))
    with file_with(sink.getvalue(), "x.arrow") as source:
        units, bad = planned(source, unit_bytes=unit_bytes)
        assert not bad
        assert sum(unit.num_rows or 0 for unit in units) == len(texts)
        assert follow_on([piece for unit in units for piece in unit.pieces])
        assert [row["text"] for row in read_units(units, source)] == texts


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 500))
def test_any_unit_size_gives_every_row_group_once(num_rows: int, group_rows: int, unit_bytes: int) -> None:
    texts = [f"row {number}" for number in range(num_rows)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=group_rows)
    with file_with(sink.getvalue(), "x.parquet") as source:
        units, bad = planned(source, unit_bytes=unit_bytes)
        assert not bad
        assert sum(unit.num_rows or 0 for unit in units) == num_rows
        assert follow_on([piece for unit in units for piece in unit.pieces])
        assert [row["text"] for row in read_units(units, source)] == texts


def follow_on(pieces: list[Piece]) -> bool:
    """Whether pieces begin at 0 and leave no gap."""
    return [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
