"""A run with workers that do as they are told: what it makes of their losses, and how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jobs import JobSpec
from models.errors import CheckpointError
from models.roberta import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast
from pipeline import output as folder
from pipeline import plans
from pipeline.decisions import Failure
from pipeline.errors import FileChanged, FileUnreadable, InputError, OutputConflict, StorageError, WorkerError
from pipeline.events import Event, RunSummary, UnitQuarantined, UnitRetried, UnitSplit, WorkerLost, WorkerReady
from pipeline.lease import LEASE, LeaseRule
from pipeline.ledger import MAX_LOST_WORKERS, RETRY_DELAY_S
from pipeline.plans import read_plans, superseded
from pipeline.run import run
from pipeline.storage import Storage
from pipeline.units import Unit, UnitReport, part_name
from pipeline.verify import verify_output
from pipeline.workers import Done, Failed, LocalPool, Lost, Message, Ready, describe
from tests.support.tokenizer_texts import write_byte_level_files

Answer = Callable[[str, Unit, int], Message]


class ScriptedPool:
    """Workers that answer at once: `answer` gets the worker, the unit and how often it has been given out."""

    output: Storage

    def __init__(self, answer: Answer, on_load: Callable[[str], Message] = lambda worker: Ready(worker=worker)) -> None:
        self._answer, self._on_load = answer, on_load
        self._news: list[Message] = []
        self.started = 0
        self.given: dict[str, int] = {}
        self.stopped = False

    def start(self, num_workers: int) -> None:
        for _ in range(num_workers):
            self._news.append(self._on_load(f"w{self.started}"))
            self.started += 1

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        self.given[unit.name] = self.given.get(unit.name, 0) + 1
        answer = self._answer(worker, unit, self.given[unit.name])
        if isinstance(answer, Done):  # as a worker leaves it: the driver looks
            self.output.write_bytes(unit.output_name, b"")
        self._news.append(answer)

    def poll(self, timeout_s: float) -> list[Message]:
        if not self._news:
            return []
        message = self._news.pop(0)
        if isinstance(message, Lost):  # nothing is heard of it any more
            self._news = [other for other in self._news if other.worker != message.worker]
        return [message]

    def drop(self, worker: str, unit: str) -> None:
        pass

    def end(self, worker: str) -> None:
        pass

    def hand_back(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True


def done(worker: str, unit: Unit, attempt: int = 1, **counts: int) -> Message:
    of_none = dict.fromkeys(("num_empty", "num_errors", "num_long", "num_tokens", "output_bytes"), 0)
    return Done(worker=worker, report=UnitReport(**({"name": unit.name, "num_rows": 2} | of_none | counts)))


def failed(worker: str, unit: Unit, error: Exception) -> Message:
    return Failed(worker=worker, unit=unit.name, failure=describe(error))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_byte_level_files(path)
    tokenizer = RobertaTokenizerFast.from_pretrained(path)
    tokenizer.save_pretrained(path)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=34,
        id2label={0: "cats", 1: "dogs"},
    )
    RobertaForSequenceClassification(config).save_pretrained(path)
    return path


@pytest.fixture
def spec(model: Path, tmp_path: Path) -> JobSpec:
    """Three files of two rows, each a unit."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"cats {number}\ndogs {number}\n")
    return JobSpec.from_dict(
        {
            "name": "pets",
            "input": {"url": str(tmp_path / "*.txt"), "unit_bytes": 14},
            "output": {"url": str(tmp_path / "out")},
            "model": {"path": str(model)},
            "task": {"type": "classify"},
        }
    )


def go(spec: JobSpec, pool: ScriptedPool | None = None, events: list[Event] | None = None) -> RunSummary:
    if pool is not None:
        pool.output = Storage.open(spec.output.url)
    return run(
        name=spec.name,
        source=spec.input,
        output=spec.output,
        model=spec.model,
        task=spec.task,
        workers=spec.workers,
        limits=spec.limits,
        job=spec.identity(),
        on_event=(events if events is not None else []).append,
        make_pool=lambda recipe, workers: LocalPool(recipe) if pool is None else pool,
    )


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RETRY_DELAY_S > 0
    monkeypatch.setattr("pipeline.ledger.RETRY_DELAY_S", 0.0)


def test_from_text_to_parts_and_again(spec: JobSpec) -> None:
    summary = go(spec)
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert (summary.num_units, summary.num_units_committed, summary.num_rows) == (3, 3, 6)
    output = Storage.open(spec.output.url)
    assert output.exists(folder.SUCCESS)
    assert not output.exists(LEASE)
    assert folder.runs(output) == [summary]

    again = go(spec, ScriptedPool(done))
    assert (again.state, again.num_units_done_before, again.num_units_committed) == ("done", 3, 0)


def test_what_passes_is_tried_again(spec: JobSpec) -> None:
    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        return failed(worker, unit, RuntimeError("once")) if attempt == 1 else done(worker, unit)

    events: list[Event] = []
    pool = ScriptedPool(answer)
    summary = go(spec, pool, events)
    assert (summary.exit_code, summary.num_units_committed) == (0, 3)
    assert len([event for event in events if isinstance(event, UnitRetried)]) == 3
    assert set(pool.given.values()) == {2}
    assert pool.stopped


def test_what_does_not_pass_goes_to_quarantine(spec: JobSpec) -> None:
    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        if unit.pieces[0].file.url.endswith("1.txt"):
            return failed(worker, unit, FileUnreadable("1.txt is damaged"))
        return done(worker, unit)

    events: list[Event] = []
    summary = go(spec, ScriptedPool(answer), events)
    assert (summary.state, summary.exit_code, summary.num_quarantined_units) == ("done", 3, 1)
    (quarantined,) = [event for event in events if isinstance(event, UnitQuarantined)]
    (record,) = folder.quarantined(Storage.open(spec.output.url))
    assert (record.name, record.reason, record.attempts) == (quarantined.unit, "1.txt is damaged", 1)
    assert record.urls[0].endswith("1.txt")


def test_one_bad_file_of_a_unit_of_several_costs_that_file_alone(spec: JobSpec) -> None:
    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        if any(piece.file.url.endswith("1.txt") for piece in unit.pieces):
            return failed(worker, unit, FileUnreadable("1.txt is damaged"))
        return done(worker, unit)

    events: list[Event] = []
    together = spec.model_copy(update={"input": spec.input.model_copy(update={"unit_bytes": 1000})})
    summary = go(together, ScriptedPool(answer), events)
    assert [len(event.parts) for event in events if isinstance(event, UnitSplit)] == [3]
    assert (summary.num_units, summary.num_units_committed, summary.num_quarantined_units) == (3, 2, 1)


@pytest.mark.parametrize(("errors", "exit_code"), [(1, 0), (2, 3)])
def test_rows_with_errors_are_held_against_the_limit_by_later_runs_too(
    spec: JobSpec, errors: int, exit_code: int
) -> None:
    limited = spec.model_copy(update={"limits": spec.limits.model_copy(update={"bad_rows": 0.5})})

    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        return done(worker, unit, num_errors=errors)

    first = go(limited, ScriptedPool(answer))
    second = go(limited, ScriptedPool(answer))
    assert (first.exit_code, second.exit_code) == (exit_code, exit_code)
    assert second.num_units_committed == 0


def test_errors_of_rows_that_are_gone_are_held_against_no_limit(spec: JobSpec, tmp_path: Path) -> None:
    limited = spec.model_copy(update={"limits": spec.limits.model_copy(update={"bad_rows": 0.4})})
    for number in (0, 1):
        (tmp_path / f"{number}.txt").write_bytes(b"\xff\xff cats\n\xff\xff dogs\n")
    first = go(limited)
    assert (first.exit_code, first.num_errors, first.num_job_errors, first.num_job_rows) == (3, 4, 4, 6)
    (tmp_path / "1.txt").write_text("cats and dogs\n")
    mended = go(limited)
    assert (mended.exit_code, mended.num_errors, mended.num_job_errors, mended.num_job_rows) == (0, 0, 2, 5)
    assert go(limited).num_job_errors == 2


def test_errors_that_are_gone_stay_so_after_a_run_that_could_read_nothing(spec: JobSpec, tmp_path: Path) -> None:
    job = spec.model_copy(update={"input": spec.input.model_copy(update={"url": (str(tmp_path / "*.parquet"),)})})
    good = pa.table({"text": ["cats", "dogs"]})
    for number in range(2):
        pq.write_table(
            pa.table({"text": pa.array([b"\xff\xff", b"dogs"]).view(pa.string())}), tmp_path / f"{number}.parquet"
        )
    assert go(job).num_job_errors == 2
    pq.ParquetWriter(tmp_path / "0.parquet", good.schema).close()  # no rows
    (tmp_path / "1.parquet").write_text("damaged")
    with pytest.raises(InputError, match="none of the input files can be read"):
        go(job)
    for number in range(2):
        pq.write_table(good, tmp_path / f"{number}.parquet")
    end = go(job)
    assert (end.exit_code, end.num_job_rows, end.num_job_errors) == (0, 4, 0)


def test_errors_count_of_runs_whose_records_have_no_count_of_the_job(spec: JobSpec, tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    go(spec, ScriptedPool(lambda worker, unit, attempt: done(worker, unit, num_errors=1)))
    for record in (tmp_path / "out" / folder.RUNS).iterdir():
        values = json.loads(record.read_text())
        del values["num_job_rows"], values["num_job_errors"]
        record.write_text(json.dumps(values))
    assert go(spec).exit_code == 3
    (tmp_path / "3.txt").write_text("a new file\n")
    end = go(spec, ScriptedPool(done))
    assert (end.exit_code, end.num_job_rows, end.num_job_errors) == (3, 8, 3)


def test_of_earlier_runs_only_the_last_record_is_read(spec: JobSpec, tmp_path: Path) -> None:
    for number in range(3, 6):
        (tmp_path / f"{number}.txt").write_text("a new file\n")
        last = go(spec)
    first, *others = sorted((tmp_path / "out" / folder.RUNS).iterdir())
    assert len(others) == 2
    first.write_text("damaged")
    (tmp_path / "6.txt").write_text("a new file\n")
    assert (last.num_job_rows, go(spec).num_job_rows) == (9, 10)


def test_a_lost_worker_is_replaced_and_its_units_done_by_others(spec: JobSpec) -> None:
    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        return Lost(worker=worker, reason="its node is gone") if worker == "w0" else done(worker, unit)

    events: list[Event] = []
    summary = go(spec, ScriptedPool(answer), events)
    assert summary.num_units_committed == 3
    lost = [event for event in events if isinstance(event, WorkerLost)]
    assert next((event.worker, event.num_workers) for event in lost) == ("w0", 0)
    assert [event.worker for event in events if isinstance(event, WorkerReady)] == ["w0", "w1"]


def test_workers_that_are_lost_one_after_another_end_the_run(spec: JobSpec) -> None:
    pool = ScriptedPool(done, on_load=lambda worker: Lost(worker=worker, reason="out of memory"))
    with pytest.raises(WorkerError, match=f"{MAX_LOST_WORKERS} workers were lost in a row; the last: out of"):
        go(spec, pool)
    (record,) = folder.runs(Storage.open(spec.output.url))
    assert (record.state, record.exit_code) == ("failed", 1)
    assert "out of memory" in record.reason


def test_a_model_that_no_worker_can_load_ends_the_run_as_what_it_is(spec: JobSpec) -> None:
    failure = describe(CheckpointError("model.safetensors is cut off"))
    pool = ScriptedPool(done, on_load=lambda worker: Lost(worker=worker, reason=failure.message, failure=failure))
    with pytest.raises(CheckpointError, match="cut off"):
        go(spec, pool)


def test_storage_that_refuses_ends_the_run_as_what_it_is(spec: JobSpec) -> None:
    pool = ScriptedPool(lambda worker, unit, attempt: failed(worker, unit, StorageError("denied")))
    with pytest.raises(StorageError, match="denied"):
        go(spec, pool)
    assert pool.stopped


def test_another_job_is_refused_and_told_what_differs(spec: JobSpec) -> None:
    go(spec)
    other = spec.model_copy(update={"task": spec.task.model_copy(update={"top_k": 2})})
    with pytest.raises(OutputConflict, match="belongs to another job, 'pets'") as refusal:
        go(other)
    assert "task.top_k: there None, now 2" in str(refusal.value)


def test_an_unforeseen_error_is_told_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    secret = "text" + " of the corpus"
    caplog.set_level(logging.DEBUG, logger="pipeline")
    with pytest.raises(ValueError, match=secret) as caught:
        int(secret)
    assert describe(caught.value).message.startswith("ValueError at test_run.py:")
    assert "a unit failed: ValueError\n" in caplog.text
    assert "int(secret)" in caplog.text
    assert secret not in caplog.text
    assert describe(RuntimeError("shapes")).message.endswith("RuntimeError: shapes")
    assert describe(StorageError("denied")) == Failure(kind="StorageError", message="denied", retry=False, reach="run")


def texts_in(output: Path) -> list[str]:
    """What the parts say they hold, by their units: one file each."""
    storage = Storage.open(str(output))
    units = {unit.output_name: unit for unit in read_plans(storage, superseded(storage))}
    return sorted(Path(piece.file.url).name for part in output.glob("part-*") for piece in units[part.name].pieces)


@pytest.mark.parametrize("unit_bytes", [14, 1000])
def test_a_changed_file_is_done_again_and_its_old_rows_are_gone(spec: JobSpec, tmp_path: Path, unit_bytes: int) -> None:
    """Also if it shared a unit with files that did not change: those are done again with it."""
    job = spec.model_copy(update={"input": spec.input.model_copy(update={"unit_bytes": unit_bytes})})
    go(job)
    (tmp_path / "1.txt").write_text("one row now\n")
    summary = go(job)
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert texts_in(tmp_path / "out") == ["0.txt", "1.txt", "2.txt"]
    rows = sum(pq.read_metadata(part).num_rows for part in (tmp_path / "out").glob("part-*"))
    assert rows == 5
    assert verify_output(Storage.open(spec.output.url)).passed
    again = go(job, ScriptedPool(done))
    assert again.num_units_committed == 0


def test_a_file_that_changed_while_it_was_to_be_read_is_done_by_the_next_run(spec: JobSpec, tmp_path: Path) -> None:
    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        if unit.pieces[0].file.url.endswith("1.txt"):
            return failed(worker, unit, FileChanged("1.txt is not the file that was planned"))
        return done(worker, unit)

    assert go(spec, ScriptedPool(answer)).exit_code == 3
    (tmp_path / "1.txt").write_text("one row now\n")
    summary = go(spec, ScriptedPool(done))
    assert (summary.exit_code, summary.num_units, summary.num_units_committed) == (0, 3, 1)


def test_a_driver_that_has_lost_its_lease_says_of_no_folder_that_it_is_whole(
    spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if there was nothing to do."""
    go(spec)
    output = Storage.open(spec.output.url)
    output.remove(folder.SUCCESS)

    def taken(rule: LeaseRule) -> None:
        raise OutputConflict("another run has taken over")

    monkeypatch.setattr(LeaseRule, "confirm", taken)
    with pytest.raises(OutputConflict, match="another run"):
        go(spec)
    assert not output.exists(folder.SUCCESS)
    monkeypatch.undo()
    assert go(spec).num_units_committed == 0
    assert output.exists(folder.SUCCESS)


def test_what_is_done_again_since_it_is_gone_counts_once(spec: JobSpec) -> None:
    """Another program has removed a part while the run went on."""

    def answer(worker: str, unit: Unit, attempt: int) -> Message:
        if pool.given.keys() - {unit.name}:
            pool.output.remove(part_name(min(pool.given)))
        return done(worker, unit)

    pool = ScriptedPool(answer)
    summary = go(spec, pool)
    assert sorted(pool.given.values()) == [1, 1, 2]
    assert (summary.num_units, summary.num_units_committed, summary.num_rows, summary.num_job_rows) == (3, 3, 6, 6)


def test_plans_are_read_once_for_each_purpose(spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what they supersede, for what has changed, for what is to do; and to see that all is done."""
    go(spec)
    opened: list[str] = []
    of_a_plan = plans._opened
    monkeypatch.setattr(plans, "_opened", lambda output, path: opened.append(path) or of_a_plan(output, path))
    go(spec)
    assert len(opened) == 3
    opened.clear()
    (tmp_path / "3.txt").write_text("a new file\n")
    assert go(spec).num_units_committed == 1
    assert opened.count("_shardmill/plans/00000.plan") == 5


class LateListing(MemoryFileSystem):
    """A store whose listing does not show everything that is there."""

    protocol = "late"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    hidden: ClassVar[set[str]] = set()

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return [entry for entry in super().ls(path, detail=True) if Path(entry["name"]).name not in self.hidden]


@pytest.mark.parametrize("num_hidden", [1, 3])
def test_a_listing_that_is_late_loses_and_doubles_no_row(spec: JobSpec, tmp_path: Path, num_hidden: int) -> None:
    """What is there and not shown is done once more, and its commit finds that it is there."""
    fsspec.register_implementation("late", LateListing, clobber=True)
    job = spec.model_copy(update={"output": spec.output.model_copy(update={"url": f"late://{tmp_path.name}/out"})})
    output = Storage.open(job.output.url)
    go(job)
    parts = {entry.path: output.read_bytes(entry.path) for entry in output.list("part-")}
    LateListing.hidden = set(sorted(parts)[:num_hidden])
    try:
        assert len(list(output.list("part-"))) == 3 - num_hidden
        summary = go(job)
    finally:
        LateListing.hidden = set()
    assert (summary.exit_code, summary.num_units_done_before) == (0, 3 - num_hidden)
    assert {entry.path: output.read_bytes(entry.path) for entry in output.list("part-")} == parts
    assert verify_output(output).passed
    assert go(job, ScriptedPool(done)).num_units_committed == 0
