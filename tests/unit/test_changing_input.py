"""Input that changes: while it is read, between runs, or in its time stamp alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import FileChanged, FileUnreadable
from pipeline.listing import list_files
from pipeline.options import InputOptions
from pipeline.plans import read_plans, superseded, write_plan
from pipeline.reader import read_piece, read_unit
from pipeline.storage import Storage
from pipeline.units import Unit
from tests.support.corpora import WRITERS, planned, read_units, whole
from tests.support.s3 import S3Bucket

ROWS = [{"id": number, "text": f"row {number} " * 20} for number in range(20_000)]
OTHER_ROWS = [{"id": -number, "text": f"another {number} " * 20} for number in range(20_000)]


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, dict[str, Any]]:
    """An empty folder, and the options to reach it."""
    if request.param == "local":
        return Storage.open(str(tmp_path)), {}
    if request.param == "memory":
        return Storage.open(f"memory://{tmp_path.name}"), {}
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return Storage.open(bucket.url, bucket.options), bucket.options


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.arrows", "x.jsonl", "x.csv.gz", "x.txt"])
def test_a_unit_never_mixes_two_versions(name: str, place: tuple[Storage, dict[str, Any]]) -> None:
    storage, options = place
    storage.write_bytes(name, WRITERS[name](pa.Table.from_pylist(ROWS)))
    (file,) = list_files(InputOptions(url=storage.url, storage=options))
    batches = read_piece(whole(file), text="text", storage_options=options, batch_rows=100)
    first = next(batches)
    storage.write_bytes(name, WRITERS[name](pa.Table.from_pylist(OTHER_ROWS)))
    try:
        read = [first, *batches]
    except FileChanged:
        return
    assert storage.reads_one_version  # it had all the bytes that it needed before
    assert [text for batch in read for text in batch.texts.to_pylist()] == [row["text"] for row in ROWS]


def test_rows_in_the_middle_of_a_file_are_of_one_version_too(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(WRITERS["x.jsonl"](pa.Table.from_pylist(ROWS)))
    (file,) = list_files(InputOptions(url=str(tmp_path)))
    unit = Unit(name="u", pieces=(whole(file),), size_bytes=1, first_row=10, stop_row=15_000)
    assert sum(len(batch.texts) for batch in read_unit(unit, text="text")) == 14_990
    batches = read_unit(unit, text="text")
    next(batches)
    path.write_bytes(WRITERS["x.jsonl"](pa.Table.from_pylist(OTHER_ROWS)))
    with pytest.raises(FileChanged, match="replaced while it was read"):
        list(batches)


def test_a_replaced_object_is_told_by_the_next_request(s3_bucket: S3Bucket) -> None:
    storage = Storage.open(s3_bucket.url, s3_bucket.options)
    storage.write_bytes("x.arrows", WRITERS["x.arrows"](pa.Table.from_pylist(ROWS)))
    (file,) = list_files(InputOptions(url=storage.url, storage=s3_bucket.options))
    batches = read_piece(whole(file), text="text", storage_options=s3_bucket.options, batch_rows=100)
    next(batches)
    storage.write_bytes("x.arrows", WRITERS["x.arrows"](pa.Table.from_pylist(OTHER_ROWS)))
    with pytest.raises(FileChanged, match=r"x\.arrows was replaced while it was read"):
        list(batches)


def test_a_local_file_that_is_overwritten_in_place_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.arrows"
    path.write_bytes(WRITERS["x.arrows"](pa.Table.from_pylist(ROWS)))
    (file,) = list_files(InputOptions(url=str(tmp_path)))
    batches = read_piece(whole(file), text="text", batch_rows=100)
    next(batches)
    with path.open("r+b") as there:
        there.write(b"\xee" * file.size_bytes)
    with pytest.raises(FileChanged, match="replaced while it was read"):
        list(batches)


def test_damage_is_still_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(WRITERS["x.parquet"](pa.Table.from_pylist(ROWS))[:-100])
    (file,) = list_files(InputOptions(url=str(tmp_path)))
    with pytest.raises(FileUnreadable) as caught:
        list(read_piece(whole(file), text="text"))
    assert not isinstance(caught.value, FileChanged)


def test_a_digest_tells_content_alone(place: tuple[Storage, dict[str, Any]]) -> None:
    storage, options = place
    source = InputOptions(url=storage.url, storage=options, fingerprint="content")
    for name, content in (("a.txt", b"one\n"), ("b.txt", b"one\n"), ("c.txt", b"two\n")):
        storage.write_bytes(name, content)
    a, b, c = list_files(source)
    assert a.fingerprint == b.fingerprint == "xxh3-128:" + a.fingerprint.partition(":")[2]
    assert a.fingerprint != c.fingerprint
    entries = {storage.url_of(entry.path): entry for entry in storage.list()}
    assert [file.version for file in (a, b, c)] == [entries[file.url].fingerprint for file in (a, b, c)]


def test_a_file_known_by_its_digest_may_be_written_again(tmp_path: Path) -> None:
    """Also between planning and reading: the unit keeps its name, and is read. Other content is another file."""
    source = InputOptions(url=str(tmp_path / "in"), fingerprint="content")
    path = tmp_path / "in" / "x.txt"
    path.parent.mkdir()
    path.write_text("one\n")
    units, _ = planned(source)
    output = Storage.open(str(tmp_path / "out"))
    write_plan(output, 0, units)
    assert list(read_plans(output, superseded(output))) == units
    os.utime(path, ns=(1, 1))
    assert [unit.name for unit in planned(source)[0]] == [unit.name for unit in units]
    assert [row["text"] for row in read_units(units, source)] == ["one"]
    path.write_text("two\n")
    assert [unit.name for unit in planned(source)[0]] != [unit.name for unit in units]
    with pytest.raises(FileChanged, match=r"is not the file that was planned"):
        read_units(units, source)
