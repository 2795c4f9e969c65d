"""`retry`: what was given up is tried again, from the output folder alone, and nothing else is."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs
import pipeline.run
from jobs import JobSpec
from pipeline import output as folder
from pipeline.cutting import halves
from pipeline.errors import FileUnreadable, InputNotFound, SpecError
from pipeline.output import SPEC, SUCCESS, Quarantined, write_quarantined
from pipeline.plans import read_plans, superseded
from pipeline.resume import Progress
from pipeline.status import read_status
from pipeline.storage import Storage
from pipeline.units import InputFile, Piece, Unit
from pipeline.verify import verify_output
from pipeline.workers import LocalPool
from tests.support.pets import go, pets, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def spec(model: Path, tmp_path: Path) -> JobSpec:
    return pets(model, tmp_path)


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here = functools.partial(pipeline.run.run, make_pool=lambda recipe, workers: LocalPool(recipe))
    monkeypatch.setattr("pipeline.run.run", here)


def damaged(*names: str, why: str = "damaged") -> functools.partial[Exception | None]:
    return functools.partial(lambda wanted, name: FileUnreadable(f"{name} is {why}") if name in wanted else None, names)


def in_quarantine(spec: JobSpec) -> list[str]:
    return [record.reason for record in folder.quarantined(Storage.open(spec.output.url))]


def parts(spec: JobSpec) -> list[str]:
    return sorted(path.name for path in Path(spec.output.url).glob("part-*"))


def num_rows(spec: JobSpec) -> int:
    return sum(pq.read_metadata(part).num_rows for part in Path(spec.output.url).glob("part-*"))


def test_what_passes_leaves_quarantine(spec: JobSpec) -> None:
    assert go(spec, refuses=damaged("1.txt")).exit_code == 3
    again = jobs.retry(spec.output.url)
    assert (again.exit_code, again.state) == (0, "done")
    assert (again.num_units, again.num_units_done_before, again.num_units_committed) == (3, 2, 1)
    assert (again.num_quarantined_units, in_quarantine(spec)) == (0, [])
    output = Storage.open(spec.output.url)
    assert output.exists(SUCCESS)
    assert verify_output(output).passed
    assert num_rows(spec) == 6
    assert jobs.run(spec).num_units_committed == 0


def test_what_fails_again_stays_with_the_new_reason(spec: JobSpec) -> None:
    go(spec, refuses=damaged("0.txt", "1.txt"))
    again = go(spec, refuses=damaged("1.txt", why="still damaged"), retry=True)
    assert (again.exit_code, again.num_units_committed, again.num_quarantined_units) == (3, 1, 1)
    assert in_quarantine(spec) == ["1.txt is still damaged"]


def test_a_run_leaves_what_is_in_quarantine_alone_and_retry_all_else(spec: JobSpec, tmp_path: Path) -> None:
    go(spec, refuses=damaged("1.txt"))
    assert go(spec).num_units_committed == 0
    next(Path(spec.output.url).glob("part-00000-000000-*")).unlink()
    (tmp_path / "3.txt").write_text("a new file\n")
    again = jobs.retry(spec.output.url)
    assert (again.state, again.num_units_committed, again.num_units_done_before) == ("done", 1, 1)
    assert not Storage.open(spec.output.url).exists(SUCCESS)
    assert jobs.run(spec).num_units_committed == 2
    assert Storage.open(spec.output.url).exists(SUCCESS)
    assert num_rows(spec) == 7


def test_a_file_of_several_in_a_unit_that_is_cut_by_the_retry(model: Path, tmp_path: Path) -> None:
    spec = pets(model, tmp_path, input={"unit_bytes": 1000})
    go(spec, refuses=lambda name: RuntimeError("out of luck"))
    assert in_quarantine(spec)
    again = go(spec, refuses=damaged("1.txt"), retry=True)
    assert (again.num_units, again.num_units_committed, again.num_quarantined_units) == (3, 2, 1)
    assert in_quarantine(spec) == ["1.txt is damaged"]
    assert jobs.retry(spec.output.url).exit_code == 0
    assert num_rows(spec) == 6
    assert verify_output(Storage.open(spec.output.url)).passed


@pytest.mark.parametrize(("bad_rows", "exit_code"), [(1.0, 0), (0.1, 3)])
def test_a_row_in_quarantine_is_held_against_the_limit_of_rows(
    model: Path, tmp_path: Path, bad_rows: float, exit_code: int
) -> None:
    """And not against that of units, of which none is lost: also by later runs. A range that nobody counted is one."""
    spec = pets(model, tmp_path, limits={"bad_rows": bad_rows, "attempts": 1})
    go(spec, refuses=damaged("1.txt"))
    output = Storage.open(spec.output.url)
    (record,) = folder.quarantined(output)
    planned = next(unit for unit in read_plans(output, superseded(output)) if unit.name == record.name)
    first, last = halves(planned, 2)
    shutil.copy(Path(spec.output.url) / next(iter(parts(spec))), Path(spec.output.url) / first.output_name)
    folder.remove_quarantined(output, record.name)
    write_quarantined(output, Quarantined.of_unit(replace(last, stop_row=2), attempts=1, reason="it kills"))
    again = go(spec)
    assert (again.num_quarantined_units, again.num_quarantined_rows, again.exit_code) == (0, 1, exit_code)
    once_more = go(spec, refuses=damaged("1.txt"), retry=True)
    assert (once_more.num_quarantined_units, once_more.num_quarantined_rows) == (1, 0)
    assert (once_more.exit_code, in_quarantine(spec)) == (3, ["1.txt is damaged"])
    assert jobs.retry(spec.output.url).num_rows == 1
    assert in_quarantine(spec) == []


def test_files_that_could_not_be_planned(model: Path, tmp_path: Path) -> None:
    spec = pets(model, tmp_path, input={"url": str(tmp_path / "*.parquet"), "unit_bytes": 1})
    pq.write_table(pa.table({"text": ["cats", "dogs"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["mice"]}), tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    changed_at = (tmp_path / "b.parquet").stat().st_mtime_ns

    def put(of_b: bytes) -> None:
        """What comes of reading b changes, as of a disk with a fault: its size and time do not."""
        (tmp_path / "b.parquet").write_bytes(of_b)
        os.utime(tmp_path / "b.parquet", ns=(changed_at, changed_at))

    put(bytes(len(content)))
    first = jobs.run(spec)
    assert (first.exit_code, first.num_bad_files, num_rows(spec)) == (3, 1, 2)
    again = jobs.retry(spec.output.url)
    assert (again.exit_code, again.num_bad_files, len(in_quarantine(spec))) == (3, 1, 1)
    put(content)
    assert jobs.run(spec).num_bad_files == 1  # a run does not look at it again
    mended = jobs.retry(spec.output.url)
    assert (mended.exit_code, mended.num_bad_files, mended.num_units_committed) == (0, 0, 1)
    assert (in_quarantine(spec), num_rows(spec)) == ([], 3)
    assert verify_output(Storage.open(spec.output.url)).passed


def test_a_bad_file_that_is_replaced_or_gone_leaves_quarantine_with_the_next_run(model: Path, tmp_path: Path) -> None:
    spec = pets(model, tmp_path, input={"url": str(tmp_path / "*.parquet")})
    for name in ("a", "b", "c"):
        pq.write_table(pa.table({"text": ["cats", "dogs"]}), tmp_path / f"{name}.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    for name in ("b", "c"):
        (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 no more")
    assert jobs.run(spec).num_bad_files == 2
    (tmp_path / "b.parquet").write_bytes(content)
    (tmp_path / "c.parquet").unlink()
    assert (jobs.run(spec).exit_code, in_quarantine(spec)) == (0, [])
    status = read_status(Storage.open(spec.output.url))
    assert (status.num_bad_files, status.num_quarantined, status.state) == (0, 0, "done")


def test_a_record_that_outlived_its_commit_does_not_count(spec: JobSpec) -> None:
    """As a driver leaves it that was killed between the two."""
    go(spec)
    output = Storage.open(spec.output.url)
    name = next(iter(sorted(Progress.of(output).committed)))
    record = Quarantined(name=name, urls=("x",), fingerprints=("f",), reason="?", attempts=3, at=0.0)
    write_quarantined(output, record)
    assert read_status(output).num_quarantined == 0
    assert jobs.run(spec).exit_code == 0
    assert in_quarantine(spec) == []


def test_with_nothing_in_quarantine_there_is_nothing_to_do(spec: JobSpec) -> None:
    go(spec)
    again = jobs.retry(spec.output.url)
    assert (again.exit_code, again.num_units_committed) == (0, 0)


def test_the_job_is_kept_without_secrets_and_read_from_any_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = pets(model, tmp_path, input={"url": "*.txt"}, output={"url": "out"})
    go(spec, refuses=damaged("1.txt"))
    kept = (tmp_path / "out" / SPEC).read_text()
    assert str(tmp_path / "*.txt") in kept
    monkeypatch.chdir(tmp_path / "out")
    assert jobs.retry(str(tmp_path / "out"), ["limits.attempts=5"]).exit_code == 0
    assert "attempts: 5" in (tmp_path / "out" / SPEC).read_text()

    secret = JobSpec.from_dict(
        {
            "name": "secret",
            "input": {
                "url": "memory://host/in",
                "storage": {"key": "hush", "endpoint_url": "http://s3", "config": {"secret": "hush"}},
            },
            "output": {"url": "abfs://container@account/out"},
            "model": {"path": "org/name"},
            "task": {"type": "ner"},
        }
    )
    kept = secret.kept()
    assert "hush" not in kept
    assert "***" not in kept
    read = JobSpec.from_kept(kept, output_url="elsewhere", overrides=["input.storage.key=given"])
    assert read.input.url == ("memory://host/in",)
    assert read.input.storage == {"key": "given", "endpoint_url": "http://s3"}
    assert (read.output.url, read.model.path) == ("elsewhere", "org/name")
    assert JobSpec.from_kept(kept, output_url="o").identity() == secret.identity()
    allowed = secret.model_copy(update={"output": secret.output.model_copy(update={"prune": True, "overwrite": True})})
    assert allowed.kept() == kept


def test_a_folder_without_a_job_says_what_to_do(spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="not an output folder of shardmill"):
        jobs.retry(str(tmp_path / "nowhere"))
    go(spec)
    (tmp_path / "out" / SPEC).unlink()
    with pytest.raises(InputNotFound, match=r"has no _shardmill/spec\.yaml: run the job once more with its file"):
        jobs.retry(spec.output.url)
    (tmp_path / "out" / SPEC).write_text("name: [")
    with pytest.raises(SpecError, match="not valid YAML: the file is damaged"):
        jobs.retry(spec.output.url)


def test_what_is_in_quarantine_has_its_place() -> None:
    def record(first_row: int, stop_row: int | None, *pieces: Piece) -> Quarantined:
        unit = Unit(name="u", pieces=pieces, size_bytes=1, first_row=first_row, stop_row=stop_row)
        return Quarantined.of_unit(unit, attempts=3, reason="?")

    file = InputFile(url="s3://b/a.parquet", format="parquet", size_bytes=9, fingerprint="f")
    lines = InputFile(url="s3://b/a.jsonl", format="jsonl", size_bytes=9, fingerprint="f")
    row = record(7, 8, Piece(file=file))
    assert (row.place, row.first_row, row.is_row) == ("s3://b/a.parquet, row 7", 7, True)
    assert record(0, 4, Piece(file=lines, start=100)).place == "s3://b/a.jsonl from byte 100, rows 0 to 3"
    whole = record(0, None, Piece(file=file, start=2), Piece(file=lines))
    assert (whole.place, whole.is_row) == ("s3://b/a.parquet from row group 2 and 1 more files", False)
    last = record(9, None, Piece(file=lines))
    assert (last.place, last.is_row) == ("s3://b/a.jsonl, row 9 and those after it", False)
