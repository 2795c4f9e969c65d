"""One run's loop: the ledger decides, the pool acts, the tally counts. Descriptors and counts pass it, never rows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import ModelError
from pipeline import output as folder
from pipeline.changes import Changes
from pipeline.clock import Clock
from pipeline.cutting import is_part, parent
from pipeline.decisions import Abort, Assign, Decision, Drop, End, Failure, Quarantine, Retire, Retry, Split
from pipeline.errors import InputError, OutputConflict, ShardmillError, StorageNotFound, WorkerError
from pipeline.events import (
    Heartbeat,
    OnEvent,
    RunFinished,
    RunStarted,
    RunState,
    RunSummary,
    UnitCommitted,
    UnitCopied,
    UnitQuarantined,
    UnitRetried,
    UnitSplit,
    WorkerLost,
    WorkerReady,
    WorkerRetired,
)
from pipeline.ledger import Ledger
from pipeline.options import LimitOptions, WorkerOptions
from pipeline.output import Quarantined
from pipeline.resume import Progress, all_units
from pipeline.stopping import StopSignals
from pipeline.storage import Storage
from pipeline.tally import Tally
from pipeline.units import Unit, part_name
from pipeline.workers import Counted, Done, Failed, Leaving, Lost, Message, Pool, Progressed, Ready
from pipeline.writer import record_of

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0  # between heartbeats to whoever watches
RECORD_S = 5.0  # between rewrites of the run's record in the output folder
PATIENCE_S = 30.0  # for the first worker, before the log says what it waits for
MAX_ROUNDS = 5  # looks at the whole output after the work, and each time there was more to do


class Claim(Protocol):
    """The right to drive the job; `pipeline.lease.Lease`, or a simulated one."""

    def check(self) -> None:
        """Raises `OutputConflict` if it is known that another driver has taken over."""
        ...

    def confirm(self) -> None:
        """Asks the storage whether another has, and raises then."""
        ...


class Stop(Protocol):
    """Whether somebody wants the run to end in order."""

    requested: bool


class Driver:
    """Takes a job from what is there to its end."""

    def __init__(
        self,
        run_id: str,
        storage: Storage,
        lease: Claim,
        workers: WorkerOptions,
        limits: LimitOptions,
        on_event: OnEvent,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._storage = storage
        self._lease = lease
        self._workers = workers
        self._limits = limits
        self._tell = on_event
        self._clock = clock or Clock()
        self._tally = Tally(run_id, storage.url, self._clock)
        self._tried_again: set[str] = set()  # in quarantine when this run began, and its to do
        self._new_plan: str | None = None  # with `retry`: what the names of units begin with that were planned for it
        self._parts_done: set[str] = set()  # parts of units that were cut, which the last listing may not show yet
        self._num_started = 0  # workers of the pool, gone ones too
        self._is_settling = False  # doing again what is gone, and was counted before
        self._warned = False
        self._heartbeat_at = self._record_at = float("-inf")

    @property
    def summary(self) -> RunSummary:
        return self._tally.summary

    def to_its_end(
        self, make_pool: Callable[[], Pool], *, changed: Changes, progress: Progress, retry: bool = False
    ) -> RunSummary:
        """Works until nothing is left, then writes `_SUCCESS` and the summary.

        Args:
            changed: how the input as it is now differs from what was planned before this run.
            progress: what the output folder holds now.
            retry: do what is in quarantine and nothing else, rather than what is left.
        """
        with StopSignals() as stop:
            steps = self.steps(make_pool, changed=changed, progress=progress, retry=retry, stop=stop)
            try:
                for _ in steps:
                    pass
            except KeyboardInterrupt:  # just between two steps
                with contextlib.suppress(StopIteration):
                    steps.throw(KeyboardInterrupt())
        return self.summary

    def steps(
        self,
        make_pool: Callable[[], Pool],
        *,
        changed: Changes,
        progress: Progress,
        retry: bool = False,
        stop: Stop,
    ) -> Generator[None, None, None]:
        """The same in steps, each as long as the pool waits for news."""
        gone_before = self._go_on_from_last_run(progress)
        self._survey(progress, changed, retry)
        self._tidy(progress)
        num_todo = self.summary.num_units - self.summary.num_units_done_before - self._tally.num_left_out
        try:
            begins = bool(num_todo or progress.outdated)
            if begins:  # at once: with the parts that are gone, their rows are no longer counted
                folder.write_run(self._storage, self.summary)
            writes = begins or changed.num_gone != gone_before or not self._storage.exists(folder.SUCCESS)
            if num_todo:
                self._storage.remove(folder.SUCCESS)  # not whole until this run ends
                todo = (unit for unit in all_units(self._storage, progress) if self._is_todo(unit, progress, retry))
                yield from self._work(todo, num_todo, make_pool, stop)
                yield from self._settle(progress, make_pool, stop, retry)
            if writes:
                self._lease.confirm()
        except KeyboardInterrupt:
            self._finish("interrupted", exit_code=130)
        except Exception as error:
            reason = str(error) if isinstance(error, (ShardmillError, ModelError)) else type(error).__name__
            with contextlib.suppress(ShardmillError):  # what ended the run may also keep its record from being written
                self._finish("failed", reason, exit_code=_exit_code(error))
            raise
        else:
            self._finish("done", writes=writes)

    def _go_on_from_last_run(self, progress: Progress) -> int:
        """Counts the rows that are there, less those that are about to go; gives how many files were gone then."""
        last = folder.last_run(self._storage)
        if last is None:
            return 0
        removed = [
            _record(self._storage, part_name(name))
            for name in progress.outdated
            if parent(name) in progress.superseded.names
        ]
        num_rows, num_errors = last.num_job_rows, last.num_job_errors
        if num_rows is None or num_errors is None:
            records = folder.runs(self._storage)
            num_rows = sum(record.num_rows for record in records)
            num_errors = sum(record.num_errors for record in records)
        self._tally.go_on_from(
            num_rows=max(0, num_rows - sum(record.get("num_rows", 0) for record in removed)),
            num_errors=max(0, num_errors - sum(record.get("num_errors", 0) for record in removed)),
        )
        return last.num_gone_files

    def _survey(self, progress: Progress, changed: Changes, retry: bool) -> None:
        """Counts what is done and what is to do."""
        if retry:
            self._tried_again = {name for name, record in progress.quarantined.items() if not record.is_file}
            self._new_plan = f"{progress.superseded.num_plans - 1:05d}-" if changed.num_to_plan else None
        given_up = progress.given_up(changed.files)
        bad_files = [record for record in given_up if record.is_file]
        num_units = num_todo = todo_rows = 0
        rows_known = True
        for unit in all_units(self._storage, progress):
            num_units += 1
            if self._is_todo(unit, progress, retry):
                num_todo += 1
                rows_known = rows_known and unit.num_rows is not None
                todo_rows += unit.num_rows or 0
            elif not progress.is_over(unit):
                self._tally.num_left_out += 1
        if bad_files and not num_units:
            raise InputError(f"none of the input files can be read. The first: {bad_files[0].reason}")
        counts = {
            "num_units": num_units,
            "num_units_done_before": num_units - num_todo - self._tally.num_left_out,
            "num_bad_files": len(bad_files),
            "num_gone_files": changed.num_gone,
            "num_pruned_files": changed.num_pruned,
        }
        self._tally.set(**counts)
        for record in given_up:
            if not record.is_file and record.name not in self._tried_again:
                self._tally.given_up(record)
        self._tell(
            RunStarted(
                run_id=self.summary.run_id,
                output_url=self._storage.url,
                num_files=len(changed.files),
                num_rows=todo_rows if rows_known else None,
                **counts,
            )
        )

    def _is_todo(self, unit: Unit, progress: Progress, retry: bool) -> bool:
        if not retry:
            return not progress.is_over(unit)
        if self._new_plan is not None and unit.name.startswith(self._new_plan):
            return not progress.is_committed(unit.name)
        return unit.name in progress.quarantined

    def _tidy(self, progress: Progress) -> None:
        """Removes rows that are there twice, or of input that has changed, and records that no longer hold."""
        if progress.outdated or progress.mended:
            self._lease.confirm()
        for name in progress.outdated:
            self._storage.remove(part_name(name))
        for name in sorted(progress.mended):
            folder.remove_quarantined(self._storage, name)

    def _settle(
        self, progress: Progress, make_pool: Callable[[], Pool], stop: Stop, retry: bool
    ) -> Generator[None, None, None]:
        """Looks once more at what is there, now that our own workers are ended, and does what is left.

        Workers that were given up may have committed units since, of which the parts are there too. What overlaps is
        removed, and what that leaves open is done again.
        """
        self._is_settling = True
        for _ in range(MAX_ROUNDS):
            progress = Progress.of(self._storage, also=self._parts_done, before=progress)
            self._tidy(progress)
            num_left = sum(1 for _ in self._left(progress))
            if retry or not num_left:
                self._tally.num_left_out = num_left
                return
            logger.warning("%d units are not there after all: doing them again", num_left)
            yield from self._work(self._left(progress), num_left, make_pool, stop)
        raise OutputConflict(
            f"units that were committed to {self._storage.url} are gone when all is done, again and again: another "
            "program removes them. Run the job again when it has ended."
        )

    def _left(self, progress: Progress) -> Iterator[Unit]:
        for unit in all_units(self._storage, progress):
            if not (
                progress.is_over(unit)
                or self._storage.exists(part_name(unit.name))  # where listings are late
                or self._storage.exists(folder.quarantine_path(unit.name))
            ):
                yield unit

    def _work(
        self, todo: Iterator[Unit], num_todo: int, make_pool: Callable[[], Pool], stop: Stop
    ) -> Generator[None, None, None]:
        """Until nothing is left; raises `KeyboardInterrupt` if asked to stop before."""
        limits = self._limits
        ledger = Ledger(todo, max_attempts=limits.attempts, stall_s=limits.stall_s, load_s=limits.load_s)
        most_workers = min(self._workers.max, num_todo)
        self._num_started = 0
        pool = make_pool()
        try:
            stopping = False
            while not ledger.done:
                if stop.requested and not stopping:
                    stopping = True
                    ledger.drain()
                    pool.hand_back()
                missing = ledger.wanted(most_workers) - (self._num_started - ledger.num_gone)
                if missing > 0 and not stopping:
                    pool.start(missing)
                    self._num_started += missing
                for message in pool.poll(HEARTBEAT_S / 4):
                    self._carry_out(self._take_in(message, ledger), ledger, pool)
                self._carry_out(ledger.tick(self._clock.monotonic()), ledger, pool)
                self._beat(ledger)
                yield
        finally:
            pool.stop()
        if stopping and ledger.unfinished:
            raise KeyboardInterrupt

    def _take_in(self, message: Message, ledger: Ledger) -> list[Decision]:
        now = self._clock.monotonic()
        match message:
            case Ready(worker=worker):
                decisions = ledger.worker_ready(worker, now)
                self._tally.worker_ready()
                self._tally.set(num_workers=ledger.num_workers)
                self._tell(WorkerReady(worker=worker, num_workers=ledger.num_workers))
                return decisions
            case Done(worker=worker, report=report):
                if ledger.holds(worker, report.name):
                    self._mend(report.name)
                    if is_part(report.name):
                        self._parts_done.add(report.name)
                    if not self._is_settling:
                        self._tally.unit_done(report)
                    self._tell(UnitCommitted(report=report, worker=worker))
                return ledger.unit_done(worker, report.name, now)
            case Failed(worker=worker, unit=unit, failure=failure):
                return ledger.unit_failed(worker, unit, failure, now)
            case Counted(worker=worker, unit=unit, num_rows=num_rows):
                return ledger.unit_counted(worker, unit, num_rows, now)
            case Progressed(worker=worker, num_steps=num_steps):
                return ledger.worker_progressed(worker, num_steps, now)
            case Leaving(worker=worker):
                return ledger.worker_leaving(worker, now)
            case Lost(worker=worker, reason=reason, failure=failure):
                if failure is not None and failure.reach == "run":
                    raise _as_error(failure)
                decisions = ledger.worker_lost(worker, reason, now)
                self._tell_lost(worker, reason, ledger)
                return decisions

    def _carry_out(self, decisions: Sequence[Decision], ledger: Ledger, pool: Pool) -> None:
        for decision in decisions:
            match decision:
                case Assign(unit=unit, worker=worker, alone=alone, copy=copy):
                    pool.assign(worker, unit, alone=alone)
                    if copy:
                        self._tell(UnitCopied(unit=unit.name, worker=worker))
                case Drop(unit=name, worker=worker):
                    pool.drop(worker, name)
                case Retry(unit=unit, attempt=attempt, reason=reason):
                    self._tell(UnitRetried(unit=unit.name, attempt=attempt, reason=reason))
                case Split(unit=unit, parts=parts, reason=reason):
                    self._mend(unit.name)
                    self._tally.set(num_units=self.summary.num_units + len(parts) - 1)
                    self._tell(UnitSplit(unit=unit.name, parts=tuple(part.name for part in parts), reason=reason))
                case Quarantine(unit=unit, attempts=attempts, reason=reason):
                    record = Quarantined.of_unit(unit, attempts=attempts, reason=reason)
                    folder.write_quarantined(self._storage, record)
                    self._tally.given_up(record)
                    self._tally.num_given_up += 1
                    self._tell(UnitQuarantined(unit=unit.name, reason=reason))
                case End(worker=worker, reason=reason):
                    pool.end(worker)
                    self._tell_lost(worker, reason, ledger)
                case Retire(worker=worker):
                    pool.end(worker)
                    self._tally.set(num_workers=ledger.num_workers)
                    self._tell(WorkerRetired(worker=worker, num_workers=ledger.num_workers))
                case Abort(failure=failure):
                    raise _as_error(failure)

    def _tell_lost(self, worker: str, reason: str, ledger: Ledger) -> None:
        self._tally.set(num_workers=ledger.num_workers)
        self._tell(WorkerLost(worker=worker, reason=reason, num_workers=ledger.num_workers))

    def _mend(self, name: str) -> None:
        """Takes a unit out of quarantine: it is committed, or its parts stand for it."""
        if name in self._tried_again:
            self._tried_again.remove(name)
            folder.remove_quarantined(self._storage, name)

    def _beat(self, ledger: Ledger) -> None:
        now = self._clock.monotonic()
        if now - self._heartbeat_at < HEARTBEAT_S:
            return
        self._heartbeat_at = now
        self._lease.check()
        self._tally.measure()
        summary = self.summary
        self._tell(
            Heartbeat(
                units_done=summary.num_units_done_before + summary.num_units_committed + self._tally.num_given_up,
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
        if self._tally.waits_for_first_worker and not self._warned and summary.seconds > PATIENCE_S:
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

    def _finish(self, state: RunState, reason: str = "", *, exit_code: int | None = None, writes: bool = True) -> None:
        self._tally.finish(state, reason, exit_code, self._limits)
        if writes:
            folder.write_run(self._storage, self.summary)
            if state == "done" and not self._tally.num_left_out:
                self._storage.write_bytes(folder.SUCCESS, b"")
        self._tell(RunFinished(summary=self.summary))


def _record(output: Storage, path: str) -> dict[str, Any]:
    """What a part says of itself; empty if it cannot be read."""
    try:
        with output.open_file(path) as file:
            return record_of(pq.ParquetFile(file))
    except (pa.ArrowException, OSError, ValueError, TypeError, StorageNotFound):  # pyarrow has many words for damage
        return {}


def _exit_code(error: Exception) -> int:
    """As the command line has it."""
    if isinstance(error, ShardmillError):
        return error.exit_code
    return InputError.exit_code if isinstance(error, ModelError) else 1


def _as_error(failure: Failure) -> ShardmillError | ModelError:
    """The failure as the error that it was in the worker, so that the exit code is right."""
    classes = {cls.__name__: cls for root in (ShardmillError, ModelError) for cls in _family(root)}
    error: ShardmillError | ModelError = classes.get(failure.kind, WorkerError)(failure.message)
    return error


def _family(root: type[Exception]) -> Iterator[type[Any]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)
