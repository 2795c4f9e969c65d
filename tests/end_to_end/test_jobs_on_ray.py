"""The three kinds of job through Ray, over every format; who can read what they write; and running them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jobs import JobSpec, annotate, run
from pipeline.events import Event, RunFinished, RunStarted, RunSummary
from pipeline.output import SUCCESS, runs
from pipeline.storage import Storage
from tests.support.every_format import FILES, Corpus
from tests.support.finished import assert_alike, assert_verified, parts_of, rows_of
from tests.support.tiny_models import HIDDEN_SIZE

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

TASKS: dict[str, dict[str, Any]] = {
    "classify": {"type": "classify", "top_k": 2},
    "embed": {"type": "embed"},
    "ner": {"type": "ner", "aggregation": "simple", "ignore_labels": []},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    kind: str
    spec: JobSpec
    summary: RunSummary

    @property
    def output(self) -> Path:
        return Path(self.spec.output.url)

    @property
    def storage(self) -> Storage:
        return Storage.open(self.spec.output.url)

    @property
    def table(self) -> pa.Table:
        return rows_of(self.storage)


@pytest.fixture(scope="module", params=TASKS)
def job(
    request: pytest.FixtureRequest,
    cluster: object,
    corpus: Corpus,
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> FinishedJob:
    kind = request.param
    spec = JobSpec(
        name=f"every format, {kind}",
        input={"url": corpus.urls, "unit_bytes": 3000},
        output={"url": str(tmp_path_factory.mktemp(kind) / "out"), "keep": ["id"]},
        model={"path": str(models[kind])},
        task=TASKS[kind],
        workers={"max": 2},
    )
    return FinishedJob(kind=kind, spec=spec, summary=run(spec))


def test_every_row_is_there_in_order(job: FinishedJob, corpus: Corpus) -> None:
    assert job.table["id"].to_pylist() == list(range(len(corpus.texts)))
    assert_verified(job.storage)


def test_the_results_are_those_of_annotate(job: FinishedJob, corpus: Corpus, models: dict[str, Path]) -> None:
    expected = annotate(corpus.texts, model=models[job.kind], task=TASKS[job.kind], dtype="auto")
    table = job.table
    assert table.schema.field("id").type == pa.int64()
    assert table.drop_columns("id").schema.equals(expected.schema)
    assert_alike(table.drop_columns("id").to_pylist(), expected.to_pylist())


def test_the_summary_counts(job: FinishedJob, corpus: Corpus) -> None:
    summary = job.summary
    assert (summary.state, summary.exit_code, summary.num_rows) == ("done", 0, len(corpus.texts))
    assert summary.num_units == summary.num_units_committed == len(parts_of(job.output)) > len(FILES) + 1
    assert summary.num_empty == sum(text is None or not text.strip() for text in corpus.texts)
    assert summary.num_errors == 0
    assert len(corpus.texts) / 20 <= summary.num_long < summary.num_rows
    assert summary.num_tokens > summary.num_rows
    assert summary.peak_worker_memory_bytes > 0
    assert (job.output / SUCCESS).read_bytes() == b""


def _as_pandas(folder: str) -> list[dict[str, Any]]:
    frame = pd.read_parquet(folder, dtype_backend="pyarrow").sort_values("id")
    return pa.Table.from_pandas(frame, preserve_index=False).to_pylist()


def _as_polars(folder: str) -> list[dict[str, Any]]:
    return pl.scan_parquet(f"{folder}/*.parquet").sort("id").collect().to_dicts()


def _as_duckdb(folder: str) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        return database.sql(f"SELECT * FROM read_parquet('{folder}') ORDER BY id").to_arrow_table().to_pylist()


@pytest.mark.parametrize("read", [_as_pandas, _as_polars, _as_duckdb])
def test_other_libraries_read_the_same_values(job: FinishedJob, read: Callable[[str], list[dict[str, Any]]]) -> None:
    assert read(str(job.output)) == job.table.to_pylist()


def test_datasets_reads_the_same_values_and_types(job: FinishedJob, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(job.output), split="train", cache_dir=str(tmp_path))
    assert loaded.with_format("arrow")[:].to_pylist() == job.table.to_pylist()
    features = loaded.features
    assert features["id"] == datasets.Value("int64")
    assert features["error"] == datasets.Value("string")
    if job.kind == "embed":
        assert features["embedding"] == datasets.List(datasets.Value("float32"), length=HIDDEN_SIZE)
    if job.kind == "ner":
        assert list(features["entities"].feature) == ["label", "score", "start", "end", "text"]


def test_types_in_polars_and_duckdb(job: FinishedJob) -> None:
    column, in_polars, in_duckdb = {
        "classify": ("labels", pl.List(pl.String), "VARCHAR[]"),
        "embed": ("embedding", pl.Array(pl.Float32, HIDDEN_SIZE), "FLOAT[]"),
        "ner": (
            "entities",
            pl.List(
                pl.Struct(
                    {"label": pl.String, "score": pl.Float32, "start": pl.Int32, "end": pl.Int32, "text": pl.String}
                )
            ),
            'STRUCT("label" VARCHAR, score FLOAT, "start" INTEGER, "end" INTEGER, "text" VARCHAR)[]',
        ),
    }[job.kind]
    assert pl.read_parquet(job.output / "*.parquet").schema[column] == in_polars
    with duckdb.connect() as database:
        described = database.sql(f"SELECT * FROM '{job.output}/*.parquet'")
        assert str(described.types[described.columns.index(column)]) == in_duckdb


def test_running_again_does_nothing(job: FinishedJob) -> None:
    before = parts_of(job.output), runs(job.storage), (job.output / SUCCESS).stat().st_mtime_ns
    events: list[Event] = []
    again = run(job.spec, on_event=events.append)
    assert [type(event) for event in events] == [RunStarted, RunFinished]  # no worker was started
    assert (again.state, again.exit_code, again.num_units_committed) == ("done", 0, 0)
    assert again.num_units_done_before == again.num_units == job.summary.num_units
    assert (parts_of(job.output), runs(job.storage), (job.output / SUCCESS).stat().st_mtime_ns) == before
