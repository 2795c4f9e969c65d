"""What a file or a record says of itself is not believed: it ends in rows, or in an error of ours."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import driver
from pipeline import output as layout
from pipeline.changes import changes
from pipeline.errors import FileUnreadable, InputError, StorageError
from pipeline.formats import arrow, csv, jsonl, rows
from pipeline.lease import Lease
from pipeline.options import InputOptions
from pipeline.output import Quarantined
from pipeline.planner import list_files
from pipeline.reader import RawBatch, read_piece
from pipeline.resume import Progress
from pipeline.status import read_status
from pipeline.storage import Storage
from pipeline.verify import verify_output
from tests.support.corpora import WRITERS, planned, read_units, rows_of, whole
from tests.support.labelled import LabelledFolder, labelled_folder

BINARY = ["x.parquet", "x.arrow", "x.arrows"]


def batches_of(folder: Path, name: str, content: bytes, **arguments: Any) -> list[RawBatch]:
    (folder / name).write_bytes(content)
    (file,) = list_files(InputOptions(url=str(folder / name)))
    return list(read_piece(whole(file), text="text", **arguments))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "layout_of", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary("int32", pa.string())]
)
def test_bad_utf8_costs_its_row(name: str, layout_of: pa.DataType, tmp_path: Path) -> None:
    texts = [b"one", b"\xff\xfe", None, "Łódź".encode(), b"\xc3"]
    column = pa.array(texts, pa.binary()).view(pa.string())  # as careless writers do it
    if pa.types.is_dictionary(layout_of):
        column = column.dictionary_encode()
    elif pa.types.is_string_view(layout_of):
        column = pa.array(texts, pa.binary_view()).view(layout_of)
    elif pa.types.is_large_string(layout_of):
        column = pa.array(texts, pa.large_binary()).view(layout_of)
    table = pa.table({"id": list(range(5)), "text": column})
    found = rows_of(batches_of(tmp_path, name, WRITERS[name](table), keep=["id"]))
    assert [row["text"] for row in found] == ["one", None, None, "Łódź", None]
    assert [row["id"] for row in found] == [0, None, 2, 3, None]
    assert [row["error"] for row in found] == [None, rows.NOT_UTF8, None, None, rows.NOT_UTF8]


@pytest.mark.parametrize("name", BINARY)
def test_a_text_that_is_too_long_costs_its_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    table = pa.table({"text": ["a", "b" * 1001, "c" * 1000]})
    found = rows_of(batches_of(tmp_path, name, WRITERS[name](table)))
    assert [row["error"] for row in found] == [None, rows.TOO_LONG, None]


@pytest.mark.parametrize("name", ["x.arrow", "x.arrows"])
@pytest.mark.parametrize("offset", [-5, 1 << 30, 2])
def test_offsets_that_lead_out_of_the_file_are_not_followed(name: str, offset: int, tmp_path: Path) -> None:
    offsets = np.array([0, 4, offset, 12], np.int32)
    column = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(b"onlytwelve!!"))
    with pytest.raises(FileUnreadable, match="offset"):
        batches_of(tmp_path, name, WRITERS[name](pa.table({"text": column})))


def test_dictionary_indices_that_lead_out_of_it_are_not_followed(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1 << 20], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(FileUnreadable):
        batches_of(tmp_path, "x.arrows", WRITERS["x.arrows"](pa.table({"text": column})))


@pytest.mark.parametrize("name", ["x.arrow", "x.arrows"])
@pytest.mark.parametrize("length", [-1, -400, -(1 << 63), 1 << 62])
def test_a_message_of_an_impossible_length_ends_the_planning(name: str, length: int, tmp_path: Path) -> None:
    content = WRITERS[name](pa.table({"text": ["a" * 999]}))
    body_bytes = struct.pack("<q", 1008)  # of the record batch: two offsets, and the letters padded
    assert body_bytes in content
    (tmp_path / name).write_bytes(content.replace(body_bytes, struct.pack("<q", length)))
    _, (bad,) = planned(InputOptions(url=str(tmp_path / name)))
    assert "negative length" in bad.reason or "truncated" in bad.reason


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("encode", [False, True])
def test_a_record_batch_that_expands_beyond_bounds_is_refused(
    compression: str, encode: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"text": ["a" * 50_000, "b" * 50_000]})
    if encode:
        table = table.set_column(0, "text", table["text"].dictionary_encode())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    assert len(sink.getvalue()) < 5000
    assert len(rows_of(batches_of(tmp_path, "x.arrows", sink.getvalue()))) == 2
    monkeypatch.setattr(arrow, "MAX_EXPANDED_BYTES", 90_000)
    with pytest.raises(FileUnreadable, match="smaller record batches"):
        batches_of(tmp_path, "x.arrows", sink.getvalue())


def _shared_in_a_view(length: int, num_rows: int) -> pa.Array:
    views = struct.pack("<i4sii", length, b"xxxx", 0, 0) * num_rows
    return pa.Array.from_buffers(pa.string_view(), num_rows, [None, pa.py_buffer(views), pa.py_buffer(b"x" * length)])


def _shared_in_a_dictionary(length: int, num_rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), pa.array(["x" * length]))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shared", [_shared_in_a_view, _shared_in_a_dictionary])
def test_a_long_value_that_all_rows_share_is_not_copied_for_all_at_once(
    name: str, shared: Callable[[int, int], pa.Array], tmp_path: Path
) -> None:
    length, num_rows = 1 << 20, 500  # half a gigabyte, in a file of about a megabyte
    content = WRITERS[name](pa.table({"text": shared(length, num_rows)}))
    (tmp_path / name).write_bytes(content)
    (file,) = list_files(InputOptions(url=str(tmp_path / name)))
    before = pa.total_allocated_bytes()
    found = 0
    for batch in read_piece(whole(file), text="text"):
        found += len(batch.texts)
        assert batch.texts.nbytes < rows.BATCH_BYTES + (1 << 20)
        assert pa.total_allocated_bytes() - before < 200 << 20
    assert found == num_rows


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_short_rows_are_parsed_a_limited_number_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (jsonl, csv):
        monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    table = pa.table({"text": [f'row "{row}"\n,' for row in range(50)]})
    (tmp_path / name).write_bytes(WRITERS[name](table))
    source = InputOptions(url=str(tmp_path / name))
    units, _ = planned(source)
    assert [row["text"] for row in read_units(units, source)] == table["text"].to_pylist()
    (file,) = list_files(source)
    assert max(len(batch.texts) for batch in read_piece(whole(file), text="text")) <= 7


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", "7"),
        ("state.json", "[" * 10_000),
        ("state.json", '{"_data_files": null}'),
        ("state.json", '{"_data_files": [{"filename": 7}]}'),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}'),
        ("dataset_dict.json", "{}"),
        ("dataset_dict.json", '{"splits": [null]}'),
        ("dataset_dict.json", '{"splits": ["."]}'),
        ("dataset_dict.json", '{"splits": [""]}'),
    ],
)
def test_a_damaged_saved_data_set_is_told(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}.*damaged"):
        list(list_files(InputOptions(url=str(tmp_path))))


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return labelled_folder(tmp_path)


DAMAGES = [
    b"",
    b"\xff\xfe{}",
    b"null",
    b"[]",
    b"{}",
    b'{"text": 7, "keep": {}, "urls": 1, "run_id": []}',
    b"[" * 10_000,
]


@pytest.mark.parametrize("content", DAMAGES, ids=[content[:8] for content in DAMAGES])
@pytest.mark.parametrize("place", [layout.JOB, f"{layout.RUNS}/r1.json", f"{layout.QUARANTINE}/file-0.json"])
def test_a_damaged_record_is_told(place: str, content: bytes, folder: LabelledFolder) -> None:
    folder.output.write_bytes(place, content)
    with pytest.raises(StorageError, match=f"{place.rpartition('/')[2]} is damaged"):
        read_status(folder.output)
    if place == layout.JOB:
        with pytest.raises(StorageError):
            verify_output(folder.output)


@pytest.mark.parametrize(
    "damage",
    [
        {"name": "NAME."},
        {"name": "NAME.r000000009-000000001"},
        {"name": "NAME.0001.0002"},
        {"fingerprints": ()},
        {"name": "file-0", "urls": (), "fingerprints": ()},
    ],
    ids=str,
)
def test_a_record_in_quarantine_that_makes_no_sense_is_told(damage: dict[str, Any], folder: LabelledFolder) -> None:
    record = replace(Quarantined.of_unit(folder.units[0], attempts=1, reason="it failed"), **damage)
    layout.write_quarantined(folder.output, replace(record, name=record.name.replace("NAME", folder.units[0].name)))
    with pytest.raises(StorageError, match=r"\.json is damaged"):
        read_status(folder.output)


def test_a_record_under_the_name_of_another_is_told(folder: LabelledFolder) -> None:
    record = Quarantined.of_unit(folder.units[0], attempts=1, reason="it failed")
    other = layout.quarantine_path(folder.units[1].name)
    folder.output.write_bytes(other, json.dumps(asdict(record)).encode())
    with pytest.raises(StorageError, match=f"{other.rpartition('/')[2]} is damaged"):
        read_status(folder.output)


@pytest.mark.parametrize("content", DAMAGES, ids=[content[:8] for content in DAMAGES])
def test_a_damaged_lease_is_nobodys(content: bytes, folder: LabelledFolder) -> None:
    folder.output.write_bytes(layout.LEASE, content)
    with Lease(folder.output, "r2"):
        assert json.loads(folder.output.read_bytes(layout.LEASE))["run_id"] == "r2"


def _plan_of(table: pa.Table, metadata: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue()


@pytest.mark.parametrize("damage", ["header", "column", "superseded"])
def test_a_damaged_plan_is_told(damage: str, folder: LabelledFolder) -> None:
    path = f"{layout.PLANS}/00000.plan"
    content = folder.output.read_bytes(path)
    plan = pq.read_table(io.BytesIO(content))
    folder.output.remove(path)
    damaged = {
        "header": b"PAR1" + b"\xff" * 60 + content[64:],
        "column": _plan_of(plan.drop_columns(["pieces"])),
        "superseded": _plan_of(plan, {"supersedes": "7"}),
    }
    folder.output.write_bytes(path, damaged[damage])
    with pytest.raises(StorageError, match="the plan is damaged"):
        changes(folder.output, Progress.of(folder.output), [])


def test_a_part_that_cannot_be_read_says_nothing_of_itself(tmp_path: Path) -> None:
    """Such a part may be on its way out: whatever pyarrow calls its damage, it must not stop the run."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2], "label": ["a", "b"]}), sink)
    whole_part, output = sink.getvalue(), Storage.open(str(tmp_path))
    footer = struct.unpack("<I", whole_part[-8:-4])[0]
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole_part)
        damaged[len(damaged) - 8 - int(generator.integers(1, footer))] ^= 1 << int(generator.integers(8))
        (tmp_path / "part").write_bytes(damaged)
        assert driver._record(output, "part") == {}
