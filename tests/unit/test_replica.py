"""A replica turns units into parts: in order, whole or not at all, and one bad unit does not stop the next."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DeviceLost, FileUnreadable, HandedBack, WorkerError
from pipeline.options import InputOptions, OutputOptions
from pipeline.output import METADATA_KEY
from pipeline.planner import input_schema, list_files, plan_units
from pipeline.reader import RawBatch, read_unit
from pipeline.replica import Replica
from pipeline.storage import Storage
from pipeline.units import Unit
from tests.support.length_engine import LengthEngine

NUM_ROWS, FILES = 40, 3

Start = Callable[[LengthEngine], Replica]


@pytest.fixture
def source(tmp_path: Path) -> InputOptions:
    """Three files of forty rows, each row group of ten a unit."""
    for number in range(FILES):
        ids = pa.array(range(number * NUM_ROWS, (number + 1) * NUM_ROWS))
        table = pa.table({"id": ids, "text": [f"file {number} " + "x" * row for row in range(NUM_ROWS)]})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=10)
    return InputOptions(url=str(tmp_path / "*.parquet"))


@pytest.fixture
def units(source: InputOptions) -> list[Unit]:
    return [unit for unit in plan_units(list_files(source), source, unit_bytes=1) if isinstance(unit, Unit)]


@pytest.fixture
def start(source: InputOptions, tmp_path: Path) -> Iterator[Start]:
    replicas: list[Replica] = []

    def make(engine: LengthEngine) -> Replica:
        replica = Replica(
            engine,  # type: ignore[arg-type]
            source=source,
            input_schema=input_schema(list_files(source), source, ["id"]),
            output=Storage.open(str(tmp_path / "out")),
            options=OutputOptions(url=str(tmp_path / "out"), keep=("id",)),
        )
        replicas.append(replica)
        return replica

    yield make
    for replica in replicas:
        replica.close()


def part(tmp_path: Path, unit: Unit) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(tmp_path / "out" / unit.output_name).to_pydict()
    return columns


def test_units_in_hand_are_committed_with_their_rows_in_order(start: Start, units: list[Unit], tmp_path: Path) -> None:
    replica = start(LengthEngine())
    futures = [replica.submit(unit) for unit in units]
    reports = [future.result() for future in futures]

    assert [report.name for report in reports] == [unit.name for unit in units]
    assert sum(report.num_rows for report in reports) == FILES * NUM_ROWS
    ids = [row for unit in units for row in part(tmp_path, unit)["id"]]
    assert ids == list(range(FILES * NUM_ROWS))
    assert part(tmp_path, units[0])["length"] == [len("file 0 ") + row for row in range(10)]
    assert {"read", "tokenize", "wait", "forward", "decode", "write", "commit"} == reports[0].stage_s.keys()


@pytest.mark.parametrize("stage", ["on_encode", "on_forward", "on_decode"])
def test_a_failure_of_all_rows_at_any_stage_ends_their_unit_alone(
    start: Start, units: list[Unit], tmp_path: Path, stage: str
) -> None:
    def refuse(texts: pa.Array) -> None:
        if any(text.startswith("file 1") for text in texts.to_pylist()):
            raise RuntimeError("no")

    replica = start(LengthEngine(**{stage: refuse}))
    outcomes = {unit: replica.submit(unit) for unit in units}

    for unit, future in outcomes.items():
        bad = unit.pieces[0].file.url.endswith("1.parquet")
        assert isinstance(future.exception(), RuntimeError) == bad
        assert (tmp_path / "out" / unit.output_name).exists() != bad


def test_a_file_that_cannot_be_read_ends_its_unit_alone(start: Start, units: list[Unit], tmp_path: Path) -> None:
    damaged = tmp_path / "1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    replica = start(LengthEngine())
    outcomes = [(unit, replica.submit(unit)) for unit in units]
    for unit, future in outcomes:
        bad = unit.pieces[0].file.url == str(damaged)
        assert isinstance(future.exception(), FileUnreadable) == bad


def test_stages_overlap_across_units(start: Start, units: list[Unit]) -> None:
    """While the first unit is on the device the second is tokenized: each waits for the other."""
    second_is_tokenized, first_is_on_the_device = threading.Event(), threading.Event()

    def on_encode(texts: pa.Array) -> None:
        if texts[0].as_py() == "file 0 " + "x" * 10:
            assert first_is_on_the_device.wait(10)
            second_is_tokenized.set()

    def on_forward(texts: pa.Array) -> None:
        if texts[0].as_py() == "file 0 ":
            first_is_on_the_device.set()
            assert second_is_tokenized.wait(10)

    replica = start(LengthEngine(on_encode=on_encode, on_forward=on_forward))
    for future in [replica.submit(unit) for unit in units[:2]]:
        future.result(timeout=20)


def test_a_device_is_sent_the_next_window_before_it_has_done_the_last(start: Start, units: list[Unit]) -> None:
    second_is_sent = threading.Event()

    def on_forward(texts: pa.Array) -> None:
        if texts[0].as_py() == "file 0 " + "x" * 10:
            second_is_sent.set()

    def on_collect(texts: pa.Array) -> None:
        if texts[0].as_py() == "file 0 ":
            assert second_is_sent.wait(10)

    replica = start(LengthEngine(on_forward=on_forward, on_collect=on_collect))
    for future in [replica.submit(unit) for unit in units[:2]]:
        assert future.result(timeout=20).num_rows == 10


def test_a_device_that_is_lost_while_it_works_ends_the_unit_as_such(start: Start, units: list[Unit]) -> None:
    def on_collect(texts: pa.Array) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    replica = start(LengthEngine(on_collect=on_collect))
    assert isinstance(replica.submit(units[0]).exception(timeout=20), DeviceLost)


def test_a_unit_that_somebody_else_committed_is_left_as_it_is(start: Start, units: list[Unit], tmp_path: Path) -> None:
    start(LengthEngine()).submit(units[0]).result()
    path = tmp_path / "out" / units[0].output_name
    before = path.stat()
    report = start(LengthEngine()).submit(units[0]).result()
    assert report.num_rows == 10
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_units_that_are_not_on_the_device_can_be_handed_back(start: Start, units: list[Unit], tmp_path: Path) -> None:
    on_the_device, go_on = threading.Event(), threading.Event()

    def on_forward(texts: pa.Array) -> None:
        on_the_device.set()
        assert go_on.wait(10)

    replica = start(LengthEngine(on_forward=on_forward))
    first, second = (replica.submit(unit) for unit in units[:2])
    assert on_the_device.wait(10)
    replica.hand_back()
    with pytest.raises(HandedBack):
        second.result(timeout=10)
    go_on.set()
    assert first.result(timeout=10).num_rows == 10
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == [units[0].output_name]


def test_a_unit_can_be_handed_back_while_its_rows_are_counted_and_after(
    start: Start, units: list[Unit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As suspects are, before they are given to the model: then none of that begins."""
    unit = replace(units[0], first_row=1)
    replica = start(LengthEngine())

    def interrupted(*args: Any, **options: Any) -> Iterator[RawBatch]:
        for number, batch in enumerate(read_unit(*args, **options)):
            assert number == 0
            replica.hand_back()
            yield batch

    monkeypatch.setattr("pipeline.replica.read_unit", interrupted)
    with pytest.raises(HandedBack):
        replica.count(unit)
    with pytest.raises(HandedBack):
        replica.submit(unit).result(timeout=10)
    assert not (tmp_path / "out").exists()


def test_staged_files_do_not_stay(
    start: Start, units: list[Unit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(staging))

    def refuse(texts: pa.Array) -> None:
        if any(text.startswith("file 1") for text in texts.to_pylist()):
            raise RuntimeError("no")

    replica = start(LengthEngine(on_decode=refuse))
    for future in [replica.submit(unit) for unit in units]:
        future.exception()
    assert list(staging.iterdir()) == []  # Ray kills workers that have nothing to do
    replica.close()
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("stage", ["on_encode", "on_forward", "on_decode"])
def test_one_bad_row_costs_one_row(start: Start, units: list[Unit], tmp_path: Path, stage: str) -> None:
    def refuse(texts: pa.Array) -> None:
        if "file 0 xxx" in texts.to_pylist():
            raise RuntimeError("no")

    report = start(LengthEngine(**{stage: refuse})).submit(units[0]).result()
    assert (report.num_rows, report.num_errors) == (10, 1)
    errors = part(tmp_path, units[0])["error"]
    assert [row for row, error in enumerate(errors) if error] == [3]


@pytest.mark.parametrize(("first", "stop"), [(0, None), (0, 1), (3, 25), (10, 20), (39, None), (12, 39)])
def test_a_unit_may_be_a_range_of_the_rows_of_its_pieces(
    start: Start, source: InputOptions, tmp_path: Path, first: int, stop: int | None
) -> None:
    (whole, *_) = (
        unit for unit in plan_units(list_files(source), source, unit_bytes=1 << 20) if isinstance(unit, Unit)
    )
    assert sum(piece.num_rows or 0 for piece in whole.pieces) == FILES * NUM_ROWS
    unit = replace(whole, name=f"{whole.name}.{first}", first_row=first, stop_row=stop)
    replica = start(LengthEngine())
    expected = list(range(FILES * NUM_ROWS))[first:stop]
    assert replica.count(unit) == len(expected)
    assert replica.submit(unit).result().num_rows == len(expected)
    assert part(tmp_path, unit)["id"] == expected
    record = json.loads(pq.read_metadata(tmp_path / "out" / unit.output_name).metadata[METADATA_KEY])
    assert (record["unit"], record["rows"]) == (unit.name, [first, stop])


def test_steps_grow_with_what_is_done(start: Start, units: list[Unit]) -> None:
    replica = start(LengthEngine())
    assert replica.num_steps == 0
    seen = 0
    for unit in units[:3]:
        replica.submit(unit).result()
        assert replica.num_steps > seen
        seen = replica.num_steps


def test_a_unit_can_be_dropped_wherever_it_is(start: Start, units: list[Unit], tmp_path: Path) -> None:
    on_the_device, go_on = threading.Event(), threading.Event()

    def on_forward(texts: pa.Array) -> None:
        on_the_device.set()
        assert go_on.wait(10)

    replica = start(LengthEngine(on_forward=on_forward))
    first, second, third = (replica.submit(unit) for unit in units[:3])
    assert on_the_device.wait(10)
    for unit in (units[0], units[2]):
        replica.drop(unit.name)
    go_on.set()
    for future in (first, third):
        with pytest.raises(HandedBack):
            future.result(timeout=10)
    assert second.result(timeout=10).num_rows == 10
    replica.drop(units[1].name)  # too late: it is committed
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == [units[1].output_name]


@pytest.mark.parametrize("in_time", [True, False])
def test_a_replica_that_is_to_leave_commits_what_is_on_the_device_if_there_is_time(
    start: Start, units: list[Unit], in_time: bool
) -> None:
    on_the_device, go_on = threading.Event(), threading.Event()

    def on_forward(texts: pa.Array) -> None:
        on_the_device.set()
        assert go_on.wait(10)

    replica = start(LengthEngine(on_forward=on_forward))
    first, second = (replica.submit(unit) for unit in units[:2])
    assert on_the_device.wait(10)
    leaving = threading.Thread(target=replica.leave, args=(10 if in_time else 0.1,))
    leaving.start()
    with pytest.raises(HandedBack):
        second.result(timeout=10)
    with pytest.raises(HandedBack):
        replica.submit(units[2]).result(timeout=10)
    if in_time:
        go_on.set()
        assert first.result(timeout=10).num_rows == 10
    else:
        with pytest.raises(HandedBack):
            first.result(timeout=10)
        go_on.set()
    leaving.join()


def test_a_closed_replica_takes_no_units(start: Start, units: list[Unit]) -> None:
    replica = start(LengthEngine())
    replica.close()
    with pytest.raises(WorkerError, match="closed"):
        replica.submit(units[0])
