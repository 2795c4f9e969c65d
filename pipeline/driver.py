"""One run's loop: the ledger decides, the pool acts, the summary counts. Descriptors and counts pass it, never rows."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from models.errors import ModelError
from pipeline import output as folder
from pipeline.changes import Changes
from pipeline.errors import InputError, ShardmillError, WorkerError
from pipeline.events import (
    Heartbeat,
    OnEvent,
    RunFinished,
    RunStarted,
    RunState,
    RunSummary,
    UnitCommitted,
    UnitQuarantined,
    UnitRetried,
    UnitSplit,
    WorkerLost,
    WorkerReady,
)
from pipeline.lease import Lease
from pipeline.ledger import Abort, Assign, Decision, Failure, Ledger, Quarantine, Retry, Split
from pipeline.options import LimitOptions, WorkerOptions
from pipeline.output import Quarantined
from pipeline.plans import num_plans
from pipeline.resume import Progress, all_units
from pipeline.stopping import StopSignals
from pipeline.storage import Storage
from pipeline.units import InputFile, Unit, part_name
from pipeline.workers import Counted, Done, Failed, Leaving, Lost, Message, Pool, Progressed, Ready

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0  # between heartbeats to whoever watches
RECORD_S = 5.0  # between rewrites of the run's record in the output folder
PATIENCE_S = 30.0  # for the first worker, before the log says what it waits for
MAX_LOST_WORKERS = 8  # without a unit committed in between: then something is wrong with all of them


class Driver:
    """One run's loop: the ledger decides, the pool acts, the summary counts."""

    def __init__(
        self,
        run_id: str,
        storage: Storage,
        lease: Lease,
        workers: WorkerOptions,
        limits: LimitOptions,
        on_event: OnEvent,
    ) -> None:
        self._storage = storage
        self._lease = lease
        self._workers = workers
        self._limits = limits
        self._tell = on_event
        self._lost_in_a_row = 0
        self._first_ready_at: float | None = None
        self._warned = False
        self._rows_before = self._errors_before = 0  # of earlier runs: the limits are the job's
        self._tried_again: set[str] = set()  # in quarantine when this run began, and its to do
        self._num_left_out = 0  # units that are neither over nor this run's to do
        self._heartbeat_at = self._record_at = 0.0
        now = time.time()
        self._summary = RunSummary(
            run_id=run_id, state="running", output_url=storage.url, started_at=now, updated_at=now
        )

    def to_its_end(
        self, make_pool: Callable[[], Pool], *, files: Sequence[InputFile], changed: Changes, retry: bool = False
    ) -> RunSummary:
        """Works until nothing is left, then writes `_SUCCESS` and the summary.

        Args:
            files: the input as it is now.
            changed: how that differs from what was planned before this run.
            retry: do what is in quarantine and nothing else, rather than what is left.
        """
        progress = Progress.of(self._storage)
        for name in progress.outdated:
            self._storage.remove(part_name(name))
        for name in progress.mended:
            folder.remove_quarantined(self._storage, name)
        new_plan = (f"{num_plans(self._storage) - 1:05d}-",) if changed.to_plan else ()

        def is_todo(unit: Unit) -> bool:
            if retry:
                return unit.name in progress.quarantined or unit.name.startswith(new_plan)
            return not progress.is_over(unit)

        given_up = progress.given_up(files)
        bad_files = [record for record in given_up if record.is_file]
        num_units, todo_rows, num_todo = 0, 0, 0
        rows_known = True
        for unit in all_units(self._storage, progress):
            num_units += 1
            if unit.name in progress.quarantined and retry:
                self._tried_again.add(unit.name)
            self._num_left_out += not (progress.is_over(unit) or is_todo(unit))
            if is_todo(unit):
                num_todo += 1
                rows_known = rows_known and unit.num_rows is not None
                todo_rows += unit.num_rows or 0
        gone_before = 0
        for earlier in folder.runs(self._storage):
            gone_before = earlier.num_gone_files
            self._rows_before += earlier.num_rows
            self._errors_before += earlier.num_errors
        if bad_files and not num_units:
            raise InputError(f"none of the input files can be read. The first: {bad_files[0].reason}")
        self._count(
            num_units=num_units,
            num_units_done_before=num_units - num_todo - self._num_left_out,
            num_bad_files=len(bad_files),
            num_quarantined_units=sum(not r.is_file and r.name not in self._tried_again for r in given_up),
            num_gone_files=changed.num_gone,
            num_pruned_files=changed.num_pruned,
        )
        self._tell(
            RunStarted(
                run_id=self._summary.run_id,
                output_url=self._storage.url,
                num_files=len(files),
                num_bad_files=len(bad_files),
                num_units=num_units,
                num_units_done_before=num_units - num_todo - self._num_left_out,
                num_rows=todo_rows if rows_known else None,
                num_gone_files=changed.num_gone,
                num_pruned_files=changed.num_pruned,
            )
        )
        try:
            if num_todo:
                self._storage.remove(folder.SUCCESS)  # not whole until this run ends
                folder.write_run(self._storage, self._summary)
                todo = (unit for unit in all_units(self._storage, progress) if is_todo(unit))
                with StopSignals() as stop:
                    self._work(Ledger(todo, max_attempts=self._limits.attempts), make_pool, num_todo, stop)
        except KeyboardInterrupt:
            self._finish("interrupted", wrote=True)
        except Exception as error:
            reason = str(error) if isinstance(error, (ShardmillError, ModelError)) else type(error).__name__
            with contextlib.suppress(ShardmillError):  # what ended the run may also keep its record from being written
                self._finish("failed", reason, wrote=True)
            raise
        else:
            self._finish("done", wrote=bool(num_todo) or changed.num_gone != gone_before)
        return self._summary

    def _work(self, ledger: Ledger, make_pool: Callable[[], Pool], num_todo: int, stop: StopSignals) -> None:
        """Until nothing is left; raises `KeyboardInterrupt` if asked to stop before."""
        pool = make_pool()
        try:
            pool.start(min(self._workers.max, num_todo))
            stopping = False
            while not ledger.done:
                if stop.requested and not stopping:
                    stopping = True
                    ledger.drain()
                    pool.hand_back()
                for message in pool.poll(HEARTBEAT_S / 4):
                    self._carry_out(self._take_in(message, ledger, pool), pool)
                self._carry_out(ledger.tick(time.monotonic()), pool)
                self._beat(ledger)
        finally:
            pool.stop()
        if stopping and ledger.unfinished:
            raise KeyboardInterrupt

    def _take_in(self, message: Message, ledger: Ledger, pool: Pool) -> list[Decision]:
        now = time.monotonic()
        match message:
            case Ready(worker=worker):
                self._first_ready_at = self._first_ready_at or time.time()
                self._count(num_workers=self._summary.num_workers + 1)
                self._tell(WorkerReady(worker=worker, num_workers=self._summary.num_workers))
                return ledger.worker_ready(worker, now)
            case Done(worker=worker, report=report):
                self._lost_in_a_row = 0
                self._mend(report.name)
                summary = self._summary
                stages = summary.stage_s.keys() | report.stage_s.keys()
                self._count(
                    num_units_committed=summary.num_units_committed + 1,
                    num_rows=summary.num_rows + report.num_rows,
                    num_empty=summary.num_empty + report.num_empty,
                    num_errors=summary.num_errors + report.num_errors,
                    num_long=summary.num_long + report.num_long,
                    num_tokens=summary.num_tokens + report.num_tokens,
                    stage_s={s: summary.stage_s.get(s, 0.0) + report.stage_s.get(s, 0.0) for s in sorted(stages)},
                    peak_worker_memory_bytes=max(summary.peak_worker_memory_bytes, report.peak_memory_bytes),
                )
                self._tell(UnitCommitted(report=report, worker=worker))
                return ledger.unit_done(worker, report.name, now)
            case Failed(worker=worker, unit=unit, failure=failure):
                return ledger.unit_failed(worker, unit, failure, now)
            case Counted() | Progressed() | Leaving():
                return []
            case Lost(worker=worker, reason=reason, failure=failure):
                if failure is not None and failure.reach == "run":
                    raise _as_error(failure)
                return self._lose(worker, reason, ledger, pool)

    def _lose(self, worker: str, reason: str, ledger: Ledger, pool: Pool) -> list[Decision]:
        if ledger.has(worker):
            self._count(num_workers=self._summary.num_workers - 1)
        self._tell(WorkerLost(worker=worker, reason=reason, num_workers=self._summary.num_workers))
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= MAX_LOST_WORKERS:
            raise WorkerError(f"{self._lost_in_a_row} workers were lost in a row; the last: {reason}")
        pool.start(1)
        return ledger.worker_lost(worker, reason, time.monotonic())

    def _carry_out(self, decisions: Sequence[Decision], pool: Pool) -> None:
        for decision in decisions:
            match decision:
                case Assign(unit=unit, worker=worker):
                    pool.assign(worker, unit)
                case Retry(unit=unit, attempt=attempt, reason=reason):
                    self._tell(UnitRetried(unit=unit.name, attempt=attempt, reason=reason))
                case Split(unit=unit, parts=parts, reason=reason):
                    self._mend(unit.name)
                    self._count(num_units=self._summary.num_units + len(parts) - 1)
                    self._tell(UnitSplit(unit=unit.name, parts=tuple(part.name for part in parts), reason=reason))
                case Quarantine(unit=unit, attempts=attempts, reason=reason):
                    self._quarantine(unit, attempts, reason)
                case Abort(failure=failure):
                    raise _as_error(failure)

    def _quarantine(self, unit: Unit, attempts: int, reason: str) -> None:
        folder.write_quarantined(
            self._storage,
            Quarantined.of_unit(unit, attempts=attempts, reason=reason),
        )
        self._count(num_quarantined_units=self._summary.num_quarantined_units + 1)
        self._tell(UnitQuarantined(unit=unit.name, reason=reason))

    def _mend(self, name: str) -> None:
        """Takes a unit out of quarantine: it is committed, or its parts stand for it."""
        if name in self._tried_again:
            self._tried_again.remove(name)
            folder.remove_quarantined(self._storage, name)

    def _beat(self, ledger: Ledger) -> None:
        now = time.monotonic()
        if now - self._heartbeat_at < HEARTBEAT_S:
            return
        self._heartbeat_at = now
        self._lease.check()
        self._measure()
        summary = self._summary
        self._tell(
            Heartbeat(
                units_done=summary.num_units_done_before + summary.num_units_committed,
                units_total=summary.num_units,
                units_in_flight=ledger.num_in_flight,
                num_rows=summary.num_rows,
                num_tokens=summary.num_tokens,
                rows_per_s=summary.rows_per_s,
                tokens_per_s=summary.tokens_per_s,
                num_workers=summary.num_workers,
                eta_s=summary.eta_s,
            )
        )
        if not self._first_ready_at and not self._warned and summary.seconds > PATIENCE_S:
            self._warned = True
            logger.warning(
                "no worker has started in %.0f s: each needs %g CPUs and %g GPUs; `ray status` tells what is free",
                summary.seconds,
                self._workers.cpus,
                self._workers.gpus,
            )
        if now - self._record_at >= RECORD_S:
            self._record_at = now
            folder.write_run(self._storage, summary)

    def _measure(self) -> None:
        """Brings the rates up to date; they leave out the time before the first worker was ready."""
        now = time.time()
        summary = self._summary
        worked_s = now - (self._first_ready_at or now)
        committed = summary.num_units_committed
        left = summary.num_units - summary.num_units_done_before - committed
        self._count(
            updated_at=now,
            rows_per_s=summary.num_rows / worked_s if worked_s else 0.0,
            tokens_per_s=summary.num_tokens / worked_s if worked_s else 0.0,
            eta_s=left * worked_s / committed if committed else None,
        )

    def _finish(self, state: RunState, reason: str = "", *, wrote: bool) -> None:
        self._measure()
        self._count(state=state, reason=reason, eta_s=None, exit_code=self._exit_code(state))
        if wrote or not self._storage.exists(folder.SUCCESS):
            folder.write_run(self._storage, self._summary)
            if state == "done" and not self._num_left_out:
                self._storage.write_bytes(folder.SUCCESS, b"")
        self._tell(RunFinished(summary=self._summary))

    def _exit_code(self, state: RunState) -> int:
        if state != "done":
            return 130 if state == "interrupted" else 1
        summary, limits = self._summary, self._limits
        num_rows, num_errors = self._rows_before + summary.num_rows, self._errors_before + summary.num_errors
        allowed = limits.bad_rows if limits.bad_rows >= 1 else limits.bad_rows * num_rows
        failed = summary.num_quarantined_units + summary.num_bad_files > limits.bad_units
        return 3 if failed or num_errors > allowed else 0

    def _count(self, **changes: Any) -> None:
        self._summary = replace(self._summary, **changes)


def _as_error(failure: Failure) -> ShardmillError | ModelError:
    """The failure as the error that it was in the worker, so that the exit code is right."""
    classes = {cls.__name__: cls for root in (ShardmillError, ModelError) for cls in _family(root)}
    error: ShardmillError | ModelError = classes.get(failure.kind, WorkerError)(failure.message)
    return error


def _family(root: type[Exception]) -> Iterator[type[Any]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)
