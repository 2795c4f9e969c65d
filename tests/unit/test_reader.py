"""Reading pieces: every format, on disk and on S3; and what is wrong with whole files."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ColumnError, FileChanged, FileUnreadable, StorageUnavailable
from pipeline.formats import arrow, parquet
from pipeline.options import InputOptions
from pipeline.planner import input_schema, list_files
from pipeline.range_reader import RangeReader
from pipeline.reader import read_piece
from pipeline.storage import Storage
from tests.support.corpora import WRITERS, planned, read_units, rows_of, whole
from tests.support.s3 import S3Bucket

ROWS = [{"id": number, "text": f'row {number}, with a "quote" and some 漢字 😀'} for number in range(1000)]


def expected(name: str) -> list[dict[str, Any]]:
    keep = ("text", "error") if name.endswith(".txt") else ("text", "id", "error")
    return [{key: (row | {"error": None})[key] for key in keep} for row in ROWS]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """An empty folder, and the options to reach it."""
    if request.param == "local":
        return Storage.open(str(tmp_path)), {}
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return Storage.open(bucket.url, bucket.options), bucket.options


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_every_row_in_order(name: str, place: tuple[Storage, dict[str, Any]]) -> None:
    storage, options = place
    storage.write_bytes(name, WRITERS[name](pa.Table.from_pylist(ROWS)))
    keep = () if name.endswith(".txt") else ("id",)
    source = InputOptions(url=storage.url_of(name), storage=options)
    schema = input_schema(list_files(source), source, keep)
    for unit_bytes in (1 << 30, 8000):
        units, bad = planned(source, unit_bytes=unit_bytes)
        assert not bad
        cuttable = not name.endswith(("gz", "zst", "bz2", "xz", "csv"))
        assert (len(units) > 3) == (cuttable and unit_bytes == 8000)
        assert read_units(units, source, keep=keep, schema=schema, batch_rows=29) == expected(name)
    assert read_units(units, source, keep=keep) == expected(name)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows"])
def test_row_counts_are_planned_where_the_format_tells(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WRITERS[name](pa.Table.from_pylist(ROWS)))
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=5000)
    assert sum(unit.num_rows or 0 for unit in units) == len(ROWS)
    assert all(unit.num_rows is not None for unit in units)


def read_table(table: pa.Table, folder: Path, name: str = "x.parquet", **arguments: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(WRITERS[name](table))
    (file,) = list_files(InputOptions(url=str(folder / name)))
    return rows_of(read_piece(whole(file), text="text", **arguments))


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_in_every_layout(kind: pa.DataType, name: str, tmp_path: Path) -> None:
    texts = ["one", None, "", "two", "one"] * 100
    table = pa.table({"text": pa.array(texts).cast(kind), "text_pair": pa.array(texts[::-1]).cast(kind)})
    found = read_table(table, tmp_path, name, text_pair="text_pair")
    assert [row["text"] for row in found] == texts
    assert [row["pair"] for row in found] == texts[::-1]


def test_a_text_column_of_nothing_but_nulls(tmp_path: Path) -> None:
    assert [row["text"] for row in read_table(pa.table({"text": pa.nulls(3)}), tmp_path)] == [None] * 3


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows"])
def test_kept_columns_pass_through_unchanged(name: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b"],
            "list": pa.array([[1, 2], None], pa.list_(pa.int16())),
            "struct": pa.array([{"x": 1.5, "y": ["z"]}, None]),
            "when": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("us", tz="UTC")),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "bytes": pa.array([b"\xff", None]),
            "a.b": pa.array([1, 2], pa.uint8()),
        }
    )
    (tmp_path / name).write_bytes(WRITERS[name](table))
    source = InputOptions(url=str(tmp_path))
    keep = [column for column in table.column_names[::-1] if column != "text"]
    schema = input_schema(list_files(source), source, keep)
    (file,) = list_files(source)
    (batch,) = read_piece(whole(file), text="text", keep=keep, schema=schema)
    assert pa.Table.from_batches([batch.kept]).equals(table.select(keep))


def test_the_text_column_may_be_kept_too(tmp_path: Path) -> None:
    (found,) = read_table(pa.table({"text": ["a"]}), tmp_path, keep=["text"])
    assert found == {"text": "a", "error": None}


def test_large_documents_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 10_000)
    table = pa.table({"text": [f"{number} " + "x" * 1000 for number in range(200)]})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False)
    (file,) = list_files(InputOptions(url=str(tmp_path)))
    sizes = [len(batch.texts) for batch in read_piece(whole(file), text="text")]
    assert sum(sizes) == 200
    assert max(sizes) <= 10


def test_large_record_batches_of_local_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "MAP_BYTES", 0)
    found = read_table(pa.Table.from_pylist(ROWS), tmp_path, "x.arrows", keep=["id"])
    assert found == expected("x.arrows")


# Columns.


def test_a_missing_column_is_told_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ColumnError, match=r"input\.text: no column 'text' in .*; it has: txet, id\. Did you mean 'txet'"
    ):
        read_table(pa.table({"txet": ["a"], "id": [1]}), tmp_path)
    with pytest.raises(ColumnError, match=r"output\.keep: no column 'url' in .*; it has: text\."):
        read_table(pa.table({"text": ["a"]}), tmp_path, keep=["url"])
    with pytest.raises(ColumnError, match=r"input\.text_pair: no column 'other'"):
        read_table(pa.table({"text": ["a"]}), tmp_path, text_pair="other")


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.jsonl"])
def test_a_column_of_another_type_is_told_with_those_of_text(name: str, tmp_path: Path) -> None:
    table = pa.table({"text": [1, 2], "title": ["a", "b"], "body": ["a", "b"]})
    (tmp_path / name).write_bytes(WRITERS[name](table))
    source = InputOptions(url=str(tmp_path))
    with pytest.raises(ColumnError, match=r"input\.text: .* is int64, not text\. Columns of text: title, body\."):
        input_schema(list_files(source), source)


def test_a_text_column_of_numbers_is_text_in_csv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,id\n1,2\n007,3\n")
    source = InputOptions(url=str(tmp_path))
    schema = input_schema(list_files(source), source, ["id"])
    assert schema.types == [pa.string(), pa.int64()]
    units, _ = planned(source)
    assert [row["text"] for row in read_units(units, source, schema=schema)] == ["1", "007"]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows", "x.csv"])
@pytest.mark.parametrize(
    ("table", "difference"),
    [
        (pa.table({"text": ["a"], "other": [1]}), r"have the column 'id' \(int64\); this one has only other, text"),
        (pa.table({"text": ["a"], "id": ["x"]}), "the column 'id' is int64 in the job's first file, and string here"),
    ],
    ids=["missing", "other type"],
)
def test_a_file_with_other_columns_costs_itself(table: pa.Table, difference: str, name: str, tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("id", pa.int64())])
    if name == "x.csv" and "id" in table.column_names:
        pytest.skip("CSV has no types: there it costs the row")
    with pytest.raises(FileUnreadable, match=difference) as caught:
        read_table(table, tmp_path, name, keep=["id"], schema=schema)
    assert caught.value.reach == "file"
    assert str(tmp_path) in str(caught.value)


def test_strings_of_another_layout_and_nulls_fit(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("id", pa.int64()), ("kind", pa.string())])
    table = pa.table(
        {"text": pa.array(["a"], pa.large_string()), "id": pa.nulls(1), "kind": pa.array(["x"], pa.large_string())}
    )
    assert read_table(table, tmp_path, keep=["id", "kind"], schema=schema) == [
        {"text": "a", "id": None, "kind": "x", "error": None}
    ]


def test_the_first_file_that_can_be_read_gives_the_schema(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "b.jsonl").write_bytes(b"")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "c.parquet")
    source = InputOptions(url=str(tmp_path))
    assert input_schema(list_files(source), source).names == ["text"]
    with pytest.raises(FileUnreadable, match=r"a\.parquet"):
        input_schema(list(list_files(source))[:1], source)


# Files.


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("x.jsonl", "x.csv", "x.txt")])
def test_a_truncated_file_costs_itself(name: str, tmp_path: Path) -> None:
    content = WRITERS[name](pa.Table.from_pylist(ROWS))
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    source = InputOptions(url=str(tmp_path))
    units, bad = planned(source)
    if bad:
        assert not units
        assert str(tmp_path / name) in bad[0].reason
    else:  # how much there should be is known only in the end
        with pytest.raises(FileUnreadable, match="cannot be read as"):
            read_units(units, source)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows", "x.jsonl.gz", "x.csv.zst"])
def test_a_file_of_something_else_costs_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"this is something else, and long enough to be taken for anything" * 10)
    source = InputOptions(url=str(tmp_path))
    units, bad = planned(source)
    with pytest.raises(FileUnreadable, match=r"x\."):
        raise FileUnreadable(bad[0].reason) if bad else AssertionError(read_units(units, source))


def test_damage_inside_a_parquet_file_costs_the_file(tmp_path: Path) -> None:
    content = bytearray(WRITERS["x.parquet"](pa.Table.from_pylist(ROWS)))
    content[100:4000] = b"\xee" * 3900
    (tmp_path / "x.parquet").write_bytes(bytes(content))
    source = InputOptions(url=str(tmp_path))
    units, bad = planned(source)
    assert not bad
    with pytest.raises(FileUnreadable, match="cannot be read as parquet"):
        read_units(units, source)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_table_has_no_units(name: str, tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    (tmp_path / name).write_bytes(WRITERS[name](empty))
    source = InputOptions(url=str(tmp_path))
    units, bad = planned(source)
    assert not bad
    assert read_units(units, source) == []


def test_a_changed_file_is_told(place: tuple[Storage, dict[str, Any]]) -> None:
    storage, options = place
    storage.write_bytes("x.txt", b"one\n")
    (file,) = list_files(InputOptions(url=storage.url, storage=options))
    storage.write_bytes("x.txt", b"other\n")
    with pytest.raises(FileChanged, match=r"x\.txt is not the file that was planned .*Run the job again"):
        list(read_piece(whole(file), text="text", storage_options=options))
    storage.remove("x.txt")
    with pytest.raises(FileChanged, match="it is gone"):
        list(read_piece(whole(file), text="text", storage_options=options))


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows", "x.jsonl", "x.jsonl.zst", "x.jsonl.gz", "x.csv"])
def test_storage_that_is_not_available_is_no_bad_file(
    name: str, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(s3_bucket.url, s3_bucket.options)
    storage.write_bytes(name, WRITERS[name](pa.Table.from_pylist(ROWS)))
    (file,) = list_files(InputOptions(url=storage.url, storage=s3_bucket.options))

    def fail(self: object, buffer: object) -> int:
        raise StorageUnavailable("not now")

    monkeypatch.setattr(RangeReader, "readinto", fail)
    with pytest.raises(StorageUnavailable, match="not now"):
        list(read_piece(whole(file), text="text", storage_options=s3_bucket.options))
