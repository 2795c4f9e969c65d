"""Input files that are gone, and folders that another job has filled: nothing is removed unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import JobSpec
from jobs.display import describe_start
from jobs.plan import make_plan
from pipeline import output as folder
from pipeline.errors import FileUnreadable, InputError, InputNotFound, OutputConflict
from pipeline.events import Event, RunStarted
from pipeline.lease import Lease
from pipeline.output import JOB, SUCCESS
from pipeline.status import read_status
from pipeline.storage import Storage
from pipeline.verify import verify_output
from tests.support.pets import go, pets, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def spec(model: Path, tmp_path: Path) -> JobSpec:
    return pets(model, tmp_path)


def pruning(spec: JobSpec) -> JobSpec:
    return spec.model_copy(update={"output": spec.output.model_copy(update={"prune": True})})


def parts(spec: JobSpec) -> dict[str, int]:
    """Part files, and how many rows each has."""
    return {path.name: pq.read_metadata(path).num_rows for path in Path(spec.output.url).glob("part-*")}


def started(events: list[Event]) -> RunStarted:
    return next(event for event in events if isinstance(event, RunStarted))


def test_files_that_are_gone_are_told_and_keep_their_rows(spec: JobSpec, tmp_path: Path) -> None:
    go(spec)
    before = parts(spec)
    (tmp_path / "1.txt").unlink()
    plan = make_plan(spec)
    assert (plan.num_gone_files, plan.num_pruned_files) == (1, 0)
    events: list[Event] = []
    end = go(spec, events=events)
    assert (end.exit_code, end.num_gone_files, end.num_pruned_files) == (0, 1, 0)
    assert "no longer in the input: 1 file of earlier runs; the rows stay, --prune removes them" in describe_start(
        started(events)
    )
    assert parts(spec) == before
    assert read_status(Storage.open(spec.output.url)).num_gone_files == 1
    go(spec, retry=True)
    assert read_status(Storage.open(spec.output.url)).num_gone_files == 1


def test_prune_removes_their_rows_and_no_others(spec: JobSpec, tmp_path: Path) -> None:
    go(spec)
    before = parts(spec)
    (tmp_path / "1.txt").unlink()
    assert make_plan(pruning(spec)).num_pruned_files == 1
    end = go(pruning(spec))
    assert (end.exit_code, end.num_gone_files, end.num_pruned_files, end.num_units) == (0, 0, 1, 2)
    assert end.num_units_committed == 0
    left = parts(spec)
    assert len(left) == 2
    assert left.items() < before.items()
    output = Storage.open(spec.output.url)
    assert output.exists(SUCCESS)
    assert verify_output(output).passed
    assert read_status(output).num_gone_files == 0
    again = go(pruning(spec))
    assert (again.num_pruned_files, again.num_units) == (0, 2)


def test_files_that_shared_a_unit_with_one_that_is_pruned_are_done_again(model: Path, tmp_path: Path) -> None:
    spec = pets(model, tmp_path, input={"unit_bytes": 1000})
    go(spec)
    assert list(parts(spec).values()) == [6]
    (tmp_path / "1.txt").unlink()
    assert list(parts(spec).values()) == [6]
    assert go(pruning(spec)).num_units_committed == 1
    assert list(parts(spec).values()) == [4]
    assert verify_output(Storage.open(spec.output.url)).passed


def test_rows_of_a_file_that_is_gone_do_not_go_with_those_of_a_changed_one(model: Path, tmp_path: Path) -> None:
    """Of one unit: it cannot be done again without the file. Only `--prune` removes them."""
    spec = pets(model, tmp_path, input={"unit_bytes": 1000})
    go(spec)
    before = parts(spec)
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text("one row now\n")
    for refused in (go, make_plan):
        with pytest.raises(InputError, match=r"1\.txt is no longer in the input, and its rows .*run with --prune"):
            refused(spec)
    assert parts(spec) == before
    assert go(spec, retry=True).state == "done"
    assert go(pruning(spec)).num_pruned_files == 1
    assert list(parts(spec).values()) == [3]
    assert verify_output(Storage.open(spec.output.url)).passed


def test_verify_tells_what_a_run_would_refuse(model: Path, tmp_path: Path) -> None:
    """And all else that it has found."""
    spec = pets(model, tmp_path, input={"unit_bytes": 1000})
    go(spec)
    (tmp_path / "3.txt").write_text("more cats\n")
    go(spec)
    for number in (0, 1):
        (tmp_path / f"{number}.txt").unlink()
    (tmp_path / "2.txt").write_text("one row now\n")
    found = verify_output(Storage.open(spec.output.url))
    assert (found.passed, found.num_compared, found.current.outcome) == (True, 1, "noted")
    (problem,) = found.current.problems
    assert "0.txt is no longer in the input" in problem
    assert "Files of which this is so: 2." in problem


def test_a_file_that_is_gone_and_has_no_rows_is_in_nobodys_way(model: Path, tmp_path: Path) -> None:
    spec = pets(model, tmp_path, input={"unit_bytes": 1000})
    go(spec, refuses=lambda name: RuntimeError("out of luck"))
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text("one row now\n")
    end = go(spec)
    assert (end.exit_code, end.num_pruned_files) == (0, 0)
    assert list(parts(spec).values()) == [3]


def test_a_file_that_comes_back_is_done_again(spec: JobSpec, tmp_path: Path) -> None:
    go(spec)
    text = (tmp_path / "1.txt").read_text()
    (tmp_path / "1.txt").unlink()
    go(pruning(spec))
    (tmp_path / "1.txt").write_text(text)
    assert go(pruning(spec)).num_units_committed == 1
    assert sum(parts(spec).values()) == 6


def test_what_is_in_quarantine_of_a_pruned_file_goes_too(spec: JobSpec, tmp_path: Path) -> None:
    go(spec, refuses=lambda name: FileUnreadable("damaged") if name == "1.txt" else None)
    (tmp_path / "1.txt").unlink()
    assert go(pruning(spec)).exit_code == 0
    assert list(folder.quarantined(Storage.open(spec.output.url))) == []


@pytest.mark.parametrize("url", ["*.txt", "?.txt", "."])
def test_an_input_that_cannot_be_listed_is_refused_and_nothing_is_pruned(model: Path, tmp_path: Path, url: str) -> None:
    """As when a disk is not mounted."""
    source = tmp_path / "disk"
    source.mkdir()
    spec = pets(model, source, input={"url": [str(source / url)]}, output={"url": str(tmp_path / "out")})
    go(spec)
    before = parts(spec)
    for file in source.glob("*.txt"):
        file.unlink()
    with pytest.raises(InputNotFound):
        go(pruning(spec))
    assert parts(spec) == before
    assert Storage.open(spec.output.url).exists(SUCCESS)


def test_one_of_several_inputs_that_is_empty_is_enough_to_refuse(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "3.txt").write_text("mice\n")
    spec = pets(model, tmp_path, input={"url": [str(tmp_path / "*.txt"), str(other)]})
    go(spec)
    before = parts(spec)
    (other / "3.txt").unlink()
    with pytest.raises(InputNotFound, match="other"):
        go(pruning(spec))
    assert parts(spec) == before


def other_job(spec: JobSpec, *, overwrite: bool) -> JobSpec:
    """Another choice of columns in the same folder."""
    task = spec.task.model_copy(update={"top_k": 2})
    return spec.model_copy(update={"task": task, "output": spec.output.model_copy(update={"overwrite": overwrite})})


def test_another_job_is_refused_with_the_difference_and_what_to_do(spec: JobSpec) -> None:
    go(spec)
    with pytest.raises(OutputConflict) as refusal:
        go(other_job(spec, overwrite=False))
    for words in ("task.top_k: there None, now 2", "Choose another output.url", "--overwrite"):
        assert words in str(refusal.value)


def test_overwrite_replaces_another_job_and_leaves_strangers_files(spec: JobSpec) -> None:
    go(spec, refuses=lambda name: FileUnreadable("damaged") if name == "1.txt" else None)
    out = Path(spec.output.url)
    theirs = set(parts(spec))
    (out / "README.md").write_text("mine")
    (out / "more").mkdir()
    (out / "more" / "part-0.parquet").write_text("mine too")
    end = go(other_job(spec, overwrite=True))
    assert (end.exit_code, end.num_units_done_before, end.num_units_committed) == (0, 0, 3)
    output = Storage.open(spec.output.url)
    assert verify_output(output).passed
    assert theirs.isdisjoint(parts(spec))  # should a worker of that job still be alive: it commits none of ours
    assert "scores" in pq.read_schema(next(out.glob("part-*"))).names
    assert (out / "README.md").read_text() == "mine"
    assert (out / "more" / "part-0.parquet").exists()
    assert len(folder.runs(output)) == 1
    assert list(folder.quarantined(output)) == []


def test_the_same_job_is_not_overwritten_but_resumed(spec: JobSpec) -> None:
    job = other_job(spec, overwrite=True)
    go(job)
    assert go(job).num_units_committed == 0


def test_overwrite_removes_nothing_beside_a_strangers_part(spec: JobSpec) -> None:
    go(spec)
    stranger = Path(spec.output.url) / "part-00000-c000.snappy.parquet"
    stranger.write_bytes(b"theirs")
    before = sorted(Path(spec.output.url).rglob("*"))
    with pytest.raises(OutputConflict, match=r"part-00000-c000\.snappy\.parquet, which shardmill did not write"):
        go(other_job(spec, overwrite=True))
    assert sorted(Path(spec.output.url).rglob("*")) == before


def test_overwrite_waits_for_no_driver_that_is_alive(spec: JobSpec) -> None:
    go(spec)
    with Lease(Storage.open(spec.output.url), "theirs"), pytest.raises(OutputConflict, match="is alive"):
        go(other_job(spec, overwrite=True))
    assert len(parts(spec)) == 3


class Stopped(Exception):
    pass


@pytest.mark.parametrize("first_to_do", ["the new job", "the old job"])
def test_overwriting_may_be_stopped_anywhere(
    spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_to_do: str
) -> None:
    """After each step: it never looks whole, and either job can be run to its end."""
    new, old = other_job(spec, overwrite=True), spec
    remove = type(Storage.open(str(tmp_path))).remove
    steps = 0
    while True:
        go(old.model_copy(update={"output": old.output.model_copy(update={"overwrite": True})}))
        left = steps

        def stop_after(self: Storage, path: str) -> None:
            nonlocal left
            if left == 0:
                raise Stopped
            left -= 1
            remove(self, path)

        output = Storage.open(spec.output.url)
        monkeypatch.setattr(type(output), "remove", stop_after)
        try:
            folder.clear(output)
            finished = True
        except Stopped:
            finished = False
        finally:
            monkeypatch.setattr(type(output), "remove", remove)
        if finished:
            break
        assert output.exists(JOB)
        assert (steps == 0) == output.exists(SUCCESS)
        job = new if first_to_do == "the new job" else old
        assert go(job).exit_code == 0
        assert verify_output(output).passed
        assert sum(parts(spec).values()) == 6
        steps += 1
    assert steps > 5
