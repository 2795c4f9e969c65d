"""A row that ends the process of every worker that meets it: it alone is given up."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle

from jobs import JobSpec
from pipeline.events import Event, WorkerLost
from pipeline.loading import ReplicaRecipe
from pipeline.options import WorkerOptions
from pipeline.output import quarantined
from pipeline.pool import RayPool
from pipeline.replica import Replica
from pipeline.run import run
from pipeline.storage import Storage
from tests.support.finished import assert_verified, rows_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("cluster")]

NUM_ROWS, DEADLY = 4, 2


@dataclass(frozen=True, kw_only=True)
class DeadlyRecipe:
    """A replica whose tokenizer ends the process at one text, as a fault in C code would."""

    recipe: ReplicaRecipe

    @property
    def workers(self) -> WorkerOptions:
        return self.recipe.workers

    def make(self) -> Replica:
        replica = self.recipe.make()
        engine: Any = replica._engine
        encode = engine.encode

        def deadly(texts: pa.Array, *others: Any, **options: Any) -> Any:
            if "a deadly text" in texts.to_pylist():
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(texts, *others, **options)

        engine.encode = deadly
        return replica


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import what lies in tests/


def test_a_row_that_kills_workers_is_found_and_costs_itself_alone(models: dict[str, Path], tmp_path: Path) -> None:
    texts = ["a deadly text" if row == DEADLY else f"text {row}" for row in range(NUM_ROWS)]
    pq.write_table(pa.table({"id": range(NUM_ROWS), "text": texts}), tmp_path / "corpus.parquet")
    spec = JobSpec(
        name="deadly",
        input={"url": str(tmp_path / "corpus.parquet")},
        output={"url": str(tmp_path / "out"), "keep": ["id"]},
        model={"path": str(models["classify"])},
        task={"type": "classify"},
        limits={"attempts": 1, "bad_rows": 1},
    )
    events: list[Event] = []
    summary = run(
        name=spec.name,
        source=spec.input,
        output=spec.output,
        model=spec.model,
        task=spec.task,
        workers=spec.workers,
        limits=spec.limits,
        job=spec.identity(),
        on_event=events.append,
        make_pool=lambda recipe, workers: RayPool(DeadlyRecipe(recipe=recipe), workers),  # type: ignore[arg-type]
    )
    assert (summary.state, summary.exit_code) == ("done", 0)
    storage = Storage.open(spec.output.url)
    assert rows_of(storage)["id"].to_pylist() == [row for row in range(NUM_ROWS) if row != DEADLY]
    (given_up,) = quarantined(storage)
    assert given_up.name.endswith(f".r{DEADLY:09d}-{DEADLY + 1:09d}")
    assert "its worker process has died" in given_up.reason
    # Once with others in hand, once alone as a whole, then as a half, a quarter ... of the rows.
    assert sum(isinstance(event, WorkerLost) for event in events) <= 2 + NUM_ROWS.bit_length()
    assert_verified(storage)
