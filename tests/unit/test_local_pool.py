"""The pool of one replica in this process says the same as the one on Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DeviceLost, HandedBack
from pipeline.options import InputOptions, OutputOptions
from pipeline.planner import input_schema, list_files, plan_units
from pipeline.replica import Replica
from pipeline.storage import Storage
from pipeline.units import Unit
from pipeline.workers import Counted, Done, Failed, LocalPool, Lost, Message, Progressed, Ready
from tests.support.length_engine import LengthEngine

ROWS_PER_UNIT = 10


class Recipe:
    """A replica with an engine whose model does what the test wants."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.source = InputOptions(url=str(folder / "corpus.parquet"))
        self.on_forward: Callable[[pa.Array], Any] = lambda texts: None

    def make(self) -> Replica:
        return Replica(
            LengthEngine(on_forward=lambda texts: self.on_forward(texts)),  # type: ignore[arg-type]
            source=self.source,
            input_schema=input_schema(list_files(self.source), self.source, ["id"]),
            output=Storage.open(str(self._folder / "out")),
            options=OutputOptions(url=str(self._folder / "out"), keep=("id",)),
        )


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    table = pa.table({"id": range(30), "text": [f"text {row}" for row in range(30)]})
    pq.write_table(table, tmp_path / "corpus.parquet", row_group_size=ROWS_PER_UNIT)
    return Recipe(tmp_path)


@pytest.fixture
def units(recipe: Recipe) -> list[Unit]:
    planned = plan_units(list_files(recipe.source), recipe.source, unit_bytes=1)
    return [unit for unit in planned if isinstance(unit, Unit)]


@pytest.fixture
def pool(recipe: Recipe) -> Iterator[LocalPool]:
    started = LocalPool(recipe)  # type: ignore[arg-type]
    started.start(1)
    assert next_of(started) == Ready(worker="local")
    yield started
    started.stop()


def next_of(pool: LocalPool) -> Message:
    """The next thing it says, other than how far it has come."""
    while True:
        for message in pool.poll(10):
            if not isinstance(message, Progressed):
                return message


def test_a_suspect_is_counted_first(pool: LocalPool, units: list[Unit]) -> None:
    pool.assign("local", units[0], alone=True)
    assert next_of(pool) == Counted(worker="local", unit=units[0].name, num_rows=ROWS_PER_UNIT)
    done = next_of(pool)
    assert isinstance(done, Done)
    assert done.report.name == units[0].name


def test_a_unit_can_be_dropped(pool: LocalPool, recipe: Recipe, units: list[Unit]) -> None:
    on_the_device, go_on = threading.Event(), threading.Event()

    def wait(texts: pa.Array) -> None:
        on_the_device.set()
        assert go_on.wait(10)

    recipe.on_forward = wait
    for unit in units[:2]:
        pool.assign("local", unit)
    assert on_the_device.wait(10)
    pool.drop("local", units[0].name)
    failed = next_of(pool)
    assert isinstance(failed, Failed)
    assert (failed.unit, failed.failure.kind) == (units[0].name, HandedBack.__name__)
    go_on.set()
    assert isinstance(next_of(pool), Done)


def test_it_tells_how_far_it_has_come(pool: LocalPool, units: list[Unit], monkeypatch: pytest.MonkeyPatch) -> None:
    pool.assign("local", units[0])
    assert isinstance(next_of(pool), Done)
    monkeypatch.setattr("pipeline.workers.PROGRESS_S", 0.0)
    (told,) = pool.poll(10)
    assert isinstance(told, Progressed)
    assert told.num_steps > 0


def test_nothing_is_heard_of_a_worker_that_was_ended(pool: LocalPool, recipe: Recipe, units: list[Unit]) -> None:
    pool.assign("local", units[0])
    pool.end("local")
    pool.assign("local", units[1])
    pool.drop("local", units[1].name)
    assert pool.poll(0.01) == []
    pool.start(1)
    assert next_of(pool) == Ready(worker="local")


def test_a_lost_device_ends_the_run(pool: LocalPool, recipe: Recipe, units: list[Unit]) -> None:
    """For it is lost to this process, which is the driver's."""

    def break_down(texts: pa.Array) -> None:
        raise DeviceLost("the device is broken")

    recipe.on_forward = break_down
    pool.assign("local", units[0])
    lost = next_of(pool)
    assert isinstance(lost, Lost)
    assert lost.failure is not None
    assert (lost.failure.kind, lost.failure.reach) == (DeviceLost.__name__, "run")
