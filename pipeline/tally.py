"""What a run has done so far, in numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.clock import Clock
from pipeline.events import RunState, RunSummary
from pipeline.options import LimitOptions
from pipeline.output import Quarantined
from pipeline.units import UnitReport


class Tally:
    """Keeps a run's summary up to date."""

    def __init__(self, run_id: str, output_url: str, clock: Clock) -> None:
        self._clock = clock
        self._first_ready_at: float | None = None
        self.num_given_up = 0  # units, by this run
        self.num_left_out = 0  # units that are neither over nor this run's to do
        now = clock.time()
        self.summary = RunSummary(run_id=run_id, state="running", output_url=output_url, started_at=now, updated_at=now)
        self.go_on_from(num_rows=0, num_errors=0)

    @property
    def waits_for_first_worker(self) -> bool:
        return self._first_ready_at is None

    def set(self, **changes: Any) -> None:
        self.summary = replace(self.summary, **changes)

    def go_on_from(self, *, num_rows: int, num_errors: int) -> None:
        """Begins with what is there of earlier runs: the limits are the job's."""
        self._num_rows_before, self._num_errors_before = num_rows, num_errors
        self.set(num_job_rows=num_rows, num_job_errors=num_errors)

    def worker_ready(self) -> None:
        self._first_ready_at = self._first_ready_at or self._clock.time()

    def unit_done(self, report: UnitReport) -> None:
        summary = self.summary
        stages = summary.stage_s.keys() | report.stage_s.keys()
        num_rows = summary.num_rows + report.num_rows
        num_errors = summary.num_errors + report.num_errors
        self.set(
            num_units_committed=summary.num_units_committed + 1,
            num_job_rows=self._num_rows_before + num_rows,
            num_job_errors=self._num_errors_before + num_errors,
            num_rows=num_rows,
            num_empty=summary.num_empty + report.num_empty,
            num_errors=num_errors,
            num_long=summary.num_long + report.num_long,
            num_tokens=summary.num_tokens + report.num_tokens,
            stage_s={s: summary.stage_s.get(s, 0.0) + report.stage_s.get(s, 0.0) for s in sorted(stages)},
            peak_worker_memory_bytes=max(summary.peak_worker_memory_bytes, report.peak_memory_bytes),
        )

    def given_up(self, record: Quarantined) -> None:
        if record.is_row:
            self.set(num_quarantined_rows=self.summary.num_quarantined_rows + 1)
        else:
            self.set(num_quarantined_units=self.summary.num_quarantined_units + 1)

    def measure(self) -> None:
        """Brings the rates up to date; they leave out the time before the first worker was ready."""
        now = self._clock.time()
        summary = self.summary
        worked_s = now - (self._first_ready_at or now)
        committed = summary.num_units_committed
        left = summary.num_units - summary.num_units_done_before - committed - self.num_given_up - self.num_left_out
        self.set(
            updated_at=now,
            rows_per_s=summary.num_rows / worked_s if worked_s else 0.0,
            tokens_per_s=summary.num_tokens / worked_s if worked_s else 0.0,
            eta_s=left * worked_s / committed if committed else None,
        )

    def finish(self, state: RunState, reason: str, exit_code: int | None, limits: LimitOptions) -> None:
        """Ends the counting.

        Args:
            exit_code: of the error that ended the run; None has the limits decide.
        """
        self.measure()
        code = self._exit_code(limits) if exit_code is None else exit_code
        self.set(state=state, reason=reason, eta_s=None, exit_code=code)

    def _exit_code(self, limits: LimitOptions) -> int:
        summary = self.summary
        num_rows = self._num_rows_before + summary.num_rows + summary.num_quarantined_rows
        num_errors = self._num_errors_before + summary.num_errors + summary.num_quarantined_rows
        allowed = limits.bad_rows if limits.bad_rows >= 1 else limits.bad_rows * num_rows
        failed = summary.num_quarantined_units + summary.num_bad_files > limits.bad_units
        return 3 if failed or num_errors > allowed else 0
