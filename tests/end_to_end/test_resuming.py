"""Jobs that are killed, or lose a worker or a node; and those that find more to do than the last time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from jobs import JobSpec, annotate, run
from pipeline.events import Event, UnitCommitted, UnitRetried, WorkerLost, WorkerReady
from pipeline.options import WorkerOptions
from pipeline.output import SUCCESS
from pipeline.storage import Storage
from tests.support.every_format import rows
from tests.support.finished import assert_alike, assert_verified, parts_of, rows_of
from tests.support.ray_nodes import NODE, worker_pids

pytestmark = pytest.mark.ray

COMMAND = Path(sys.executable).with_name("shardmill")
PATIENCE_S = 120
NUM_ROWS = 1500
ROWS_PER_UNIT = 10
TASK = {"type": "ner", "ignore_labels": []}


@pytest.fixture
def spec(models: dict[str, Path], tmp_path: Path) -> JobSpec:
    """A job of many small units."""
    source = tmp_path / "corpus"
    source.mkdir()
    write(source / "a.parquet", NUM_ROWS)
    return JobSpec(
        name="many units",
        input={"url": str(source), "unit_bytes": 1},
        output={"url": str(tmp_path / "out"), "keep": ["id"]},
        model={"path": str(models["ner"])},
        task=TASK,
    )


def write(path: Path, num_rows: int, *, first_id: int = 0) -> None:
    pq.write_table(rows(num_rows, first_id=first_id), path, row_group_size=ROWS_PER_UNIT)


def assert_complete(spec: JobSpec, num_rows: int = NUM_ROWS) -> None:
    """All rows are there, once, in order, and as they are without any trouble."""
    storage = Storage.open(spec.output.url)
    assert_verified(storage)
    found = rows_of(storage)
    assert found["id"].to_pylist() == list(range(num_rows))
    expected = annotate(rows(num_rows)["text"].to_pylist(), model=spec.model.path, task=TASK, dtype="auto")
    assert_alike(found.drop_columns("id").to_pylist(), expected.to_pylist())


class Watcher:
    """Keeps a run's events, and does something once, when the first unit is committed; the driver waits for it."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.events: list[Event] = []
        self._act = act

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, UnitCommitted) and len(self.of(UnitCommitted)) == 1:
            self._act()

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_driver_that_is_stopped_goes_on_where_it_was(
    how: signal.Signals, spec: JobSpec, cluster: Cluster, tmp_path: Path
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(spec.to_yaml())
    output = Path(spec.output.url)
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    with subprocess.Popen([COMMAND, "run", job], env=environment, stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + PATIENCE_S
        while not parts_of(output):
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        driver.send_signal(how)
        assert driver.wait(PATIENCE_S) == (130 if how == signal.SIGINT else -how)
    while worker_pids():  # Ray ends what a dead driver has left
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = parts_of(output)
    assert 0 < len(before) < NUM_ROWS / ROWS_PER_UNIT
    assert not (output / SUCCESS).exists()

    summary = run(spec)
    assert (summary.exit_code, summary.num_units_done_before) == (0, len(before))
    assert {name: changed for name, changed in parts_of(output).items() if name in before} == before
    assert_complete(spec)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_replaced(spec: JobSpec) -> None:
    watcher = Watcher(lambda: os.kill(worker_pids()[0], signal.SIGKILL))
    summary = run(spec, on_event=watcher)
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert (len(watcher.of(WorkerLost)), len(watcher.of(WorkerReady))) == (1, 2)
    assert watcher.of(UnitRetried)
    assert_complete(spec)


def test_a_node_that_is_lost_is_replaced(spec: JobSpec, cluster: Cluster) -> None:
    large = NODE | {"num_cpus": 3}  # the job fits on no other node of the cluster
    nodes = [cluster.add_node(**large)]

    def replace_node() -> None:
        nodes.append(cluster.add_node(**large))
        cluster.remove_node(nodes[0], allow_graceful=False)

    watcher = Watcher(replace_node)
    summary = run(spec.model_copy(update={"workers": WorkerOptions(cpus=3)}), on_event=watcher)
    cluster.remove_node(nodes[1])
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert (len(watcher.of(WorkerLost)), len(watcher.of(WorkerReady))) == (1, 2)
    assert watcher.of(UnitRetried)
    assert_complete(spec)


@pytest.mark.usefixtures("cluster")
def test_a_file_that_was_added_is_all_that_is_done(spec: JobSpec) -> None:
    source, output = Path(spec.input.url[0]), Path(spec.output.url)
    write(source / "a.parquet", 100)
    first = run(spec)
    before = parts_of(output)
    write(source / "b.parquet", 50, first_id=100)
    second = run(spec)
    assert (first.num_rows, second.num_rows) == (100, 50)
    assert (second.num_units_done_before, second.num_units_committed) == (10, 5)
    assert {name: changed for name, changed in parts_of(output).items() if name in before} == before
    assert_complete(spec, 150)
