"""How far a job is, from its output folder alone: no driver is asked, so any machine that sees the folder can tell."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputNotFound, StorageError
from pipeline.events import RunSummary
from pipeline.output import JOB, SPEC, SUCCESS, Quarantined, read_job, runs
from pipeline.resume import Progress, all_units
from pipeline.storage import Storage

STALE_AFTER_S = 60.0  # a driver writes its record every few seconds: this silent, it is gone

State = Literal["done", "running", "stale", "interrupted", "failed", "unfinished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus:
    """What an output folder says of its job."""

    output_url: str
    job: dict[str, Any]  # what `_shardmill/job.json` holds
    state: State
    num_units: int  # in all plans
    num_committed: int  # of them
    num_quarantined: int  # of them, as far as they are not single rows
    num_quarantined_rows: int  # rows in quarantine on their own, whose neighbours are committed
    num_bad_files: int  # in quarantine: files that could not be planned
    quarantine: tuple[Quarantined, ...]  # all of it, with place and reason
    num_rows: int | None  # in committed units, if the plans tell
    runs: tuple[RunSummary, ...]  # oldest first
    num_leftovers: int | None  # what killed writers have begun, not a live run; None where the store does not tell
    heartbeat_age_s: float | None  # since the last run wrote its record

    @property
    def last_run(self) -> RunSummary | None:
        return self.runs[-1] if self.runs else None

    @property
    def num_gone_files(self) -> int:
        """Input files that the last run no longer found, and whose rows are still here."""
        return 0 if self.last_run is None else self.last_run.num_gone_files

    @property
    def num_missing(self) -> int:
        return self.num_units - self.num_committed - self.num_quarantined - self.num_quarantined_rows


def read_status(output: Storage, *, now: float | None = None) -> OutputStatus:
    """Reads the folder: one listing, the plans, the quarantine and the records of the runs.

    Args:
        output: the output folder; nothing is written there.
        now: seconds since the epoch, to judge the age of the last heartbeat.

    Raises:
        InputNotFound: the folder is not there, or is none of ours.
    """
    job = read_output_job(output)
    progress = Progress.of(output)
    num_units = num_committed = num_quarantined = num_single_rows = 0
    num_rows: int | None = 0
    for unit in all_units(output, progress):
        num_units += 1
        if progress.is_committed(unit.name):
            num_committed += 1
            num_rows = None if num_rows is None or unit.num_rows is None else num_rows + unit.num_rows
        elif (record := progress.quarantined.get(unit.name)) is not None:
            num_quarantined += not record.is_row
            num_single_rows += record.is_row
    history = tuple(runs(output))
    last_run = history[-1] if history else None
    age_s = None if last_run is None else (time.time() if now is None else now) - last_run.updated_at
    state = _state(last_run, age_s, finished=output.exists(SUCCESS))
    return OutputStatus(
        output_url=output.url,
        job=job,
        state=state,
        num_units=num_units,
        num_committed=num_committed,
        num_quarantined=num_quarantined,
        num_quarantined_rows=num_single_rows,
        num_bad_files=len(progress.bad_files()),
        quarantine=tuple(sorted(progress.quarantined.values(), key=lambda record: record.name)),
        num_rows=num_rows,
        runs=history,
        num_leftovers=_num_leftovers(output, last_run.started_at if last_run and state == "running" else math.inf),
        heartbeat_age_s=age_s,
    )


def read_output_job(output: Storage) -> dict[str, Any]:
    """The job that an output folder belongs to.

    Raises:
        InputNotFound: the folder is not there, or is none of ours.
    """
    if not output.exists(JOB):
        raise InputNotFound(
            f"{output.url} is not an output folder of shardmill: there is no {JOB} in it. "
            "Give the folder that the job file names as output.url."
        )
    return read_job(output)


def read_spec(output: Storage) -> str:
    """The job as it was last run, as YAML without secrets.

    Raises:
        InputNotFound: the folder is not there, is none of ours, or was made before jobs were kept there.
    """
    read_output_job(output)
    if not output.exists(SPEC):
        raise InputNotFound(f"{output.url} has no {SPEC}: run the job once more with its file, which puts it there.")
    return output.read_bytes(SPEC).decode()


def _num_leftovers(output: Storage, before: float) -> int | None:
    try:
        return sum(leftover.begun_at < before for leftover in output.leftovers())
    except StorageError:
        return None


def _state(last_run: RunSummary | None, age_s: float | None, *, finished: bool) -> State:
    if last_run is not None and last_run.state == "running":
        return "running" if age_s is not None and age_s < STALE_AFTER_S else "stale"
    if finished:
        return "done"
    if last_run is not None and last_run.state in ("interrupted", "failed"):
        return "interrupted" if last_run.state == "interrupted" else "failed"
    return "unfinished"
