"""The pool on a real cluster: what it says of workers that are asked to leave, hang, are ended, or die."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle

from pipeline import pool as module
from pipeline.errors import DeviceLost, HandedBack
from pipeline.options import InputOptions, OutputOptions, WorkerOptions
from pipeline.planner import input_schema, list_files, plan_units
from pipeline.pool import RayPool
from pipeline.replica import Replica
from pipeline.storage import Storage
from pipeline.units import Unit, part_name
from pipeline.workers import Counted, Done, Failed, Leaving, Lost, Message, Progressed, Ready
from tests.support import length_engine
from tests.support.length_engine import LengthEngine
from tests.support.ray_nodes import worker_pids

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

PATIENCE_S = 60
ROWS_PER_UNIT = 10

# Workers cannot import what lies in tests/: it travels to them.
cloudpickle.register_pickle_by_value(length_engine)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A replica whose model holds on for as long as a file `hold` is there, and breaks the device if one `break` is.

    While a file `load` is there it is not made.
    """

    folder: Path
    workers: WorkerOptions

    def make(self) -> Replica:
        def on_forward(texts: pa.Array) -> None:
            (self.folder / "on-the-device").touch()
            if (self.folder / "break").exists():
                raise DeviceLost("the device is broken")
            while (self.folder / "hold").exists():
                time.sleep(0.01)

        while (self.folder / "load").exists():
            time.sleep(0.01)
        source = InputOptions(url=str(self.folder / "corpus.parquet"))
        return Replica(
            LengthEngine(on_forward=on_forward),  # type: ignore[arg-type]
            source=source,
            input_schema=input_schema(list_files(source), source, ["id"]),
            output=Storage.open(str(self.folder / "out")),
            options=OutputOptions(url=str(self.folder / "out"), keep=("id",)),
        )


cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Workers:
    """A pool, and all that it has said."""

    def __init__(self, folder: Path) -> None:
        self.pool = RayPool(Recipe(folder=folder, workers=WorkerOptions()), WorkerOptions())  # type: ignore[arg-type]
        self.told: list[Message] = []

    def until(self, arrived: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not arrived():
            self.told += self.pool.poll(0.05)
            assert time.monotonic() < deadline, self.told

    def of(self, *kinds: type[Message]) -> list[Any]:
        return [message for message in self.told if isinstance(message, kinds)]

    def start(self) -> tuple[str, int]:
        """One more worker: its name and its process."""
        before, num_ready = set(worker_pids()), len(self.of(Ready))
        self.pool.start(1)
        self.until(lambda: len(self.of(Ready)) > num_ready)
        (pid,) = set(worker_pids()) - before
        return self.of(Ready)[-1].worker, pid


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr(module, "PROGRESS_S", 0.1)
    table = pa.table({"id": range(50), "text": [f"text {row}" for row in range(50)]})
    pq.write_table(table, tmp_path / "corpus.parquet", row_group_size=ROWS_PER_UNIT)
    started = Workers(tmp_path)
    yield started
    started.pool.stop()
    deadline = time.monotonic() + PATIENCE_S
    while worker_pids():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def units(tmp_path: Path, workers: Workers) -> list[Unit]:
    source = InputOptions(url=str(tmp_path / "corpus.parquet"))
    return [unit for unit in plan_units(list_files(source), source, unit_bytes=1) if isinstance(unit, Unit)]


def is_there(pid: int) -> bool:
    return pid in worker_pids()


def test_a_worker_that_is_asked_to_end_commits_what_is_on_the_device_and_hands_back_the_rest(
    workers: Workers, units: list[Unit], tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    worker, pid = workers.start()
    for unit in units[:3]:
        workers.pool.assign(worker, unit)
    workers.until((tmp_path / "on-the-device").exists)
    os.kill(pid, signal.SIGTERM)
    workers.until(lambda: len(workers.of(Failed)) == 2)
    workers.pool.assign(worker, units[3])  # it did not know yet
    workers.until(lambda: len(workers.of(Failed)) == 3)
    (tmp_path / "hold").unlink()
    workers.until(lambda: workers.of(Lost))

    assert [type(m) for m in workers.of(Leaving, Failed, Done, Lost)] == [Leaving, Failed, Failed, Failed, Done, Lost]
    (done,) = workers.of(Done)  # any of the first three: calls to an actor may overtake each other
    assert {failed.unit for failed in workers.of(Failed)} | {done.report.name} == {unit.name for unit in units[:4]}
    assert {failed.failure.kind for failed in workers.of(Failed)} == {HandedBack.__name__}
    assert done.report.name != units[3].name
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == [part_name(done.report.name)]
    workers.until(lambda: not is_there(pid))


def test_a_worker_that_hangs_while_it_loads_is_seen_to_have_begun_and_can_be_ended(
    workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "load").touch()
    workers.pool.start(1)
    workers.until(lambda: workers.of(Progressed))
    (told, *_) = workers.of(Progressed)
    (pid,) = worker_pids()
    assert (told.num_steps, workers.of(Ready)) == (0, [])
    workers.pool.end(told.worker)
    workers.until(lambda: not is_there(pid))


def test_a_worker_that_hangs_gives_no_sign_of_life_and_can_be_ended(workers: Workers, units: list[Unit]) -> None:
    worker, pid = workers.start()
    workers.until(lambda: len(workers.of(Progressed)) >= 2)
    os.kill(pid, signal.SIGSTOP)
    workers.pool.assign(worker, units[0])
    for _ in range(10):
        workers.told += workers.pool.poll(0.1)  # what was on its way
    num_signs = len(workers.of(Progressed))
    for _ in range(10):
        workers.told += workers.pool.poll(0.05)
    assert len(workers.of(Progressed)) == num_signs
    workers.pool.end(worker)
    other, _ = workers.start()
    workers.pool.assign(other, units[0])
    workers.until(lambda: workers.of(Done))
    workers.until(lambda: not is_there(pid))
    assert not workers.of(Lost)
    assert [done.worker for done in workers.of(Done)] == [other]
    workers.pool.assign(worker, units[1])  # decided a moment too late: nothing happens


def test_a_suspect_is_counted_first(workers: Workers, units: list[Unit]) -> None:
    worker, _ = workers.start()
    workers.pool.assign(worker, units[0], alone=True)
    workers.until(lambda: workers.of(Done))
    assert workers.of(Counted, Done)[0] == Counted(worker=worker, unit=units[0].name, num_rows=ROWS_PER_UNIT)


def test_a_unit_that_is_dropped_is_not_committed(workers: Workers, units: list[Unit], tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    worker, _ = workers.start()
    for unit in units[:2]:
        workers.pool.assign(worker, unit)
    workers.until((tmp_path / "on-the-device").exists)
    workers.pool.drop(worker, units[0].name)
    workers.until(lambda: workers.of(Failed))
    (tmp_path / "hold").unlink()
    workers.until(lambda: workers.of(Done))
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == [units[1].output_name]


def test_steps_tell_how_far_a_worker_has_come(workers: Workers, units: list[Unit]) -> None:
    worker, _ = workers.start()
    workers.until(lambda: workers.of(Progressed))
    assert workers.of(Progressed)[-1] == Progressed(worker=worker, num_steps=0)
    workers.pool.assign(worker, units[0])
    workers.until(lambda: workers.of(Progressed)[-1].num_steps > 0)


def test_a_worker_that_dies_idle_is_noticed(workers: Workers) -> None:
    worker, pid = workers.start()
    os.kill(pid, signal.SIGKILL)
    workers.until(lambda: workers.of(Lost))
    (lost,) = workers.of(Lost)
    assert (lost.worker, lost.failure) == (worker, None)
    assert "its worker process has died" in lost.reason
    assert "\n" not in lost.reason


def test_a_worker_whose_device_is_lost_is_lost_with_it(workers: Workers, units: list[Unit], tmp_path: Path) -> None:
    (tmp_path / "break").touch()
    worker, pid = workers.start()
    for unit in units[:2]:
        workers.pool.assign(worker, unit)
    workers.until(lambda: workers.of(Lost))
    assert workers.of(Lost, Failed) == [Lost(worker=worker, reason="the device is broken")]
    workers.until(lambda: not is_there(pid))
