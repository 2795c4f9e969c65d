"""What a run tells whoever watches it: a display, a log, a test.

Events are small values, given in order to one callable, on the driver's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.units import UnitReport

RunState = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """How a run ended, or how far it is; also written to `_shardmill/runs/<run_id>.json`."""

    run_id: str
    state: RunState
    output_url: str
    started_at: float  # seconds since the epoch
    updated_at: float
    num_units: int = 0  # in all plans
    num_units_done_before: int = 0  # committed (or in quarantine) when this run began
    num_units_committed: int = 0  # by this run
    num_quarantined_units: int = 0  # of all plans, whose input is still as it was then
    num_quarantined_rows: int = 0  # likewise rows on their own, found by cutting a unit: held against `limits.bad_rows`
    num_bad_files: int = 0  # input files that could not be planned, and are still as they were then
    num_gone_files: int = 0  # were planned, are no longer in the input, and keep their rows
    num_pruned_files: int = 0  # likewise, and their rows were removed by this run
    # Committed by this run and those before, less those whose input has changed since, or is gone. None in records that
    # were written before these counts were.
    num_job_rows: int | None = None
    num_job_errors: int | None = None  # of them: held against `limits.bad_rows`
    num_rows: int = 0  # the counts from here on are of units committed by this run
    num_empty: int = 0
    num_errors: int = 0
    num_long: int = 0
    num_tokens: int = 0
    num_workers: int = 0
    rows_per_s: float = 0.0
    tokens_per_s: float = 0.0
    eta_s: float | None = None
    stage_s: dict[str, float] = field(default_factory=dict)  # as in `UnitReport`, summed over workers
    peak_worker_memory_bytes: int = 0
    reason: str = ""  # why it failed, in a sentence
    exit_code: int = 0

    @property
    def seconds(self) -> float:
        return self.updated_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    run_id: str
    output_url: str
    num_files: int
    num_bad_files: int
    num_units: int
    num_units_done_before: int
    num_rows: int | None  # still to do, where the formats tell
    num_gone_files: int = 0  # as in `RunSummary`
    num_pruned_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    worker: str
    num_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    worker: str
    reason: str
    num_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRetired:
    """A worker was ended, because nothing is left for it to do."""

    worker: str
    num_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCommitted:
    report: UnitReport
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRetried:
    unit: str
    attempt: int  # the one that failed, from 1
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSplit:
    """A unit was cut: into one unit a file, because one of them is bad, or into halves, because a row of it is."""

    unit: str
    parts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCopied:
    """A unit that takes longer than others was given to a second worker; whoever is done first counts."""

    unit: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitQuarantined:
    unit: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Sent every second or so, and after each committed unit."""

    units_done: int  # committed or in quarantine, by this run or before
    units_total: int
    units_in_flight: int
    num_rows: int
    num_tokens: int
    rows_per_s: float
    tokens_per_s: float
    num_workers: int
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    summary: RunSummary


Event = (
    RunStarted
    | WorkerReady
    | WorkerLost
    | WorkerRetired
    | UnitCommitted
    | UnitRetried
    | UnitSplit
    | UnitCopied
    | UnitQuarantined
    | Heartbeat
    | RunFinished
)
OnEvent = Callable[[Event], Any]
