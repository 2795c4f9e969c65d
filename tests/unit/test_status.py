"""`status` tells how far a job is, from its output folder alone; and how that and a verification look on screen."""

import io
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from jobs.reports import status_report, verification_report
from pipeline import output as layout
from pipeline.cutting import by_piece
from pipeline.errors import InputNotFound
from pipeline.output import Quarantined
from pipeline.status import STALE_AFTER_S, read_status
from pipeline.storage import Storage
from pipeline.verify import verify_output
from tests.support.labelled import LabelledFolder, labelled_folder


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return labelled_folder(tmp_path)


def printed(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def give_up(folder: LabelledFolder, name: str) -> None:
    record = Quarantined(name=name, urls=("x",), fingerprints=("f",), reason="truncated", attempts=3, at=0.0)
    layout.write_quarantined(folder.output, record)


def test_a_finished_job(folder: LabelledFolder) -> None:
    status = read_status(folder.output)
    assert (status.state, status.num_units, status.num_committed, status.num_missing) == ("done", 4, 4, 0)
    assert status.num_rows == 40
    shown = printed(status_report(status))
    assert "by-hand  done" in shown
    assert "4/4 units (100%)" in shown
    assert "40 rows" in shown
    assert "quarantine" not in shown


@pytest.mark.parametrize(
    ("run", "age_s", "state"),
    [
        ({"state": "running"}, 1.0, "running"),
        ({"state": "running"}, STALE_AFTER_S + 1, "stale"),
        ({"state": "interrupted"}, 1e6, "interrupted"),
        ({"state": "failed", "reason": "all workers died"}, 1e6, "failed"),
        ({"state": "done"}, 1.0, "unfinished"),
    ],
)
def test_a_job_on_its_way(folder: LabelledFolder, run: dict[str, Any], age_s: float, state: str) -> None:
    folder.part(2).unlink()
    folder.output.remove(layout.SUCCESS)
    now = time.time()
    folder.write_run(updated_at=now - age_s, num_workers=2, eta_s=90.0, **run)
    status = read_status(folder.output, now=now)
    assert (status.state, status.num_committed, status.num_missing, status.num_rows) == (state, 3, 1, 30)
    shown = printed(status_report(status))
    assert "3/4 units (75%)" in shown
    assert ("2 workers · 1 min 30 s left" in shown) == (state == "running")
    assert ("run the job again to go on" in shown) == (state != "running")
    assert run.get("reason", "") in shown


def test_the_last_of_several_runs_counts(folder: LabelledFolder) -> None:
    now = time.time()
    folder.write_run(run_id="r0", state="failed", started_at=now - 9000.0, updated_at=now - 8000.0)
    status = read_status(folder.output)
    assert status.last_run is not None
    assert status.last_run.run_id == "r1"


def test_quarantine_is_told_with_its_place(folder: LabelledFolder) -> None:
    folder.part(0).unlink()
    give_up(folder, folder.units[0].name)
    give_up(folder, "file-0123abcd")
    status = read_status(folder.output)
    assert (status.num_quarantined, status.num_bad_files, status.num_missing) == (1, 1, 0)
    shown = printed(status_report(status))
    assert f"shardmill retry {folder.output.url} tries it again" in shown
    assert "✗ file-0123abcd: truncated" in shown


def test_a_row_in_quarantine_is_told_as_a_row_with_its_place(folder: LabelledFolder) -> None:
    folder.part(2).unlink()
    unit = replace(folder.units[2], name=f"{folder.units[2].name}.r000000007-000000008", first_row=7, stop_row=8)
    layout.write_quarantined(folder.output, Quarantined.of_unit(unit, attempts=3, reason="it kills the worker"))
    status = read_status(folder.output)
    assert (status.num_quarantined, status.num_quarantined_rows) == (0, 1)
    shown = printed(status_report(status))
    assert "1  rows that could not be done" in shown
    assert f"✗ {folder.root}/b.parquet, row 7: it kills the worker" in shown


def test_what_is_left_out_where_much_is_in_quarantine(folder: LabelledFolder) -> None:
    for number in range(13):
        give_up(folder, f"file-{number:08x}")
    shown = printed(status_report(read_status(folder.output)))
    assert shown.count("✗") == 10
    assert f"… and 3 more in {folder.output.url}/_shardmill/quarantine/" in shown


def test_earlier_runs_and_what_killed_writers_left(folder: LabelledFolder) -> None:
    now = time.time()
    folder.write_run(run_id="r-1", state="failed", reason="denied", started_at=now - 9000.0, updated_at=now - 8000.0)
    folder.write_run(run_id="r0", state="running", started_at=now - 7000.0, updated_at=now - 6000.0)
    (folder.root / "out" / f".{folder.units[0].output_name}.0123abcd.staged").write_bytes(b"half")
    status = read_status(folder.output)
    assert [run.run_id for run in status.runs] == ["r-1", "r0", "r1"]
    assert status.num_leftovers == 1
    shown = printed(status_report(status))
    assert re.search(r"before .* stopped without a word · .*\n.*before .* failed · .*: denied", shown)
    assert re.search(r"leftovers +1 +writes begun and not finished", shown)


def test_what_a_run_that_is_alive_is_just_writing_is_no_leftover(folder: LabelledFolder) -> None:
    now = time.time()
    folder.write_run(run_id="r2", state="running", started_at=now - 5.0)
    for unit, age_s in ((folder.units[0], 1.0), (folder.units[1], 9.0)):
        staged = folder.root / "out" / f".{unit.output_name}.0123abcd.staged"
        staged.write_bytes(b"half")
        os.utime(staged, (now - age_s, now - age_s))
    assert read_status(folder.output).num_leftovers == 1
    folder.write_run(run_id="r2", state="interrupted", started_at=now - 5.0)
    assert read_status(folder.output).num_leftovers == 2


def test_a_unit_cut_for_a_bad_file_counts_by_its_parts(folder: LabelledFolder) -> None:
    folder.part(3).unlink()
    good, _ = by_piece(folder.units[3])
    folder.write_part(good)
    status = read_status(folder.output)
    assert (status.num_units, status.num_committed, status.num_missing) == (5, 4, 1)


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="is not an output folder of shardmill"):
        read_status(Storage.open(str(tmp_path / "nowhere")))


def test_a_verification_on_screen(folder: LabelledFolder) -> None:
    shown = printed(verification_report(verify_output(folder.output), folder.output.url))
    assert "all of it holds" in shown
    assert "4 units · 40 rows · 8 empty · 0 errors · 0 in quarantine" in shown
    assert shown.count("✓") == 10
    assert "✗" not in shown


def test_a_verification_tells_what_is_new_and_what_may_be_deleted(folder: LabelledFolder) -> None:
    shutil.copy(folder.root / "a.parquet", folder.root / "e.parquet")
    staged = folder.root / "out" / f".{folder.units[0].output_name}.0123abcd.staged"
    staged.write_bytes(b"half")
    os.utime(staged, (0, 0))
    shown = printed(verification_report(verify_output(folder.output), folder.output.url))
    assert "all of it holds" in shown
    assert "work for the next run" in shown
    assert f"! the input has nothing new since it was planned\n  {folder.root}/e.parquet: new or changed" in shown
    assert f"may be deleted: 1 file\n  {staged.name}\n" in shown


def test_a_failed_verification_on_screen(folder: LabelledFolder) -> None:
    folder.part(2).unlink()
    shown = printed(verification_report(verify_output(folder.output, quick=True), folder.output.url))
    assert "does not hold" in shown
    assert f"  unit {folder.units[2].name} is missing: run the job again\n" in shown
    assert "1 problem" in shown
    assert "not read, as --quick asks" in shown
