"""Who has which unit: a pure state machine.

Events and the time go in, decisions come out. It does no I/O, reads no clock and starts no thread, so that thousands of
failures can be played through in seconds. Units are drawn from an iterator as workers ask for them: only those in hand,
or waiting for another try, are held in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pipeline.errors import HandedBack
from pipeline.units import Unit

RETRY_DELAY_S = 1.0  # before the second try; doubles with each further one


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, as a plain value that crosses processes."""

    kind: str  # the error's class
    message: str
    retry: bool = True  # whether another attempt may do better
    reach: str = "unit"  # "file": one input file is bad; "run": nothing else would do better


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Give the unit to the worker."""

    unit: Unit
    worker: str
    attempt: int  # from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The attempt failed; the unit will be handed out again. For the log."""

    unit: Unit
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The unit was cut into one unit a file, which take its place. For the log."""

    unit: Unit
    parts: tuple[Unit, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Record the unit as given up."""

    unit: Unit
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """End the run: no other unit would do better."""

    failure: Failure


Decision = Assign | Retry | Split | Quarantine | Abort


@dataclass(slots=True, kw_only=True)
class _Worker:
    free: int
    units: dict[str, tuple[Unit, int]] = field(default_factory=dict)  # in hand, with the attempt's number


class Ledger:
    """Hands every unit to a worker until it is committed or given up."""

    def __init__(self, units: Iterable[Unit], *, max_attempts: int = 3, slots: int = 2) -> None:
        """
        Args:
            units: what is to be done, in order; drawn lazily.
            max_attempts: tries at a unit before it is given up.
            slots: units that a worker holds at once, so that the next is read while one is on the device.
        """
        self._fresh = iter(units)
        self._exhausted = False
        self._again: list[tuple[float, int, Unit, int]] = []  # due time, tie-breaker, unit, next attempt
        self._pushed = 0
        self._workers: dict[str, _Worker] = {}
        self._max_attempts = max_attempts
        self._slots = slots
        self._draining = False

    @property
    def done(self) -> bool:
        """Whether nobody has a unit in hand, and nothing is handed out any more."""
        return not self.num_in_flight and (self._draining or not self.unfinished)

    @property
    def unfinished(self) -> bool:
        """Whether there are units that nobody has in hand."""
        return not self._exhausted or bool(self._again)

    @property
    def num_in_flight(self) -> int:
        return sum(len(worker.units) for worker in self._workers.values())

    def has(self, worker: str) -> bool:
        """Whether a worker is ready, or at work."""
        return worker in self._workers

    def worker_ready(self, worker: str, now: float) -> list[Decision]:
        """A worker has its model loaded and takes units."""
        self._workers[worker] = _Worker(free=self._slots)
        return self.tick(now)

    def worker_lost(self, worker: str, reason: str, now: float) -> list[Decision]:
        """A worker is gone; what it had in hand goes to others. Losing an unknown worker changes nothing."""
        lost = self._workers.pop(worker, None)
        decisions: list[Decision] = []
        for unit, attempt in lost.units.values() if lost else ():
            failure = Failure(kind="WorkerLost", message=reason)
            decisions += self._after_failure(unit, attempt, failure, now)
        return decisions + self.tick(now)

    def unit_done(self, worker: str, unit: str, now: float) -> list[Decision]:
        """A worker has committed a unit (or found it committed)."""
        self._release(worker, unit)
        return self.tick(now)

    def unit_failed(self, worker: str, unit: str, failure: Failure, now: float) -> list[Decision]:
        """A worker could not finish a unit. A report from a worker that no longer has it changes nothing."""
        held = self._release(worker, unit)
        decisions = self._after_failure(*held, failure, now) if held else []
        return decisions + self.tick(now)

    def drain(self) -> None:
        """From now on hands out nothing; units that fail wait for another run."""
        self._draining = True
        self._exhausted = self._exhausted or next(self._fresh, None) is None

    def tick(self, now: float) -> list[Decision]:
        """Hands out what is due to workers with a free slot, the emptiest first."""
        decisions: list[Decision] = []
        while free := [(-worker.free, name) for name, worker in self._workers.items() if worker.free]:
            taken = self._take(now)
            if taken is None:
                break
            unit, attempt = taken
            name = min(free)[1]
            self._workers[name].units[unit.name] = (unit, attempt)
            self._workers[name].free -= 1
            decisions.append(Assign(unit=unit, worker=name, attempt=attempt))
        return decisions

    def _take(self, now: float) -> tuple[Unit, int] | None:
        if self._draining:
            return None
        if self._again and self._again[0][0] <= now:
            _, _, unit, attempt = heapq.heappop(self._again)
            return unit, attempt
        unit_or_none = next(self._fresh, None)
        if unit_or_none is None:
            self._exhausted = True
            return None
        return unit_or_none, 1

    def _release(self, worker: str, unit: str) -> tuple[Unit, int] | None:
        holder = self._workers.get(worker)
        held = holder.units.pop(unit, None) if holder else None
        if holder and held:
            holder.free += 1
        return held

    def _after_failure(self, unit: Unit, attempt: int, failure: Failure, now: float) -> list[Decision]:
        if failure.reach == "run":
            return [Abort(failure=failure)]
        if failure.kind == HandedBack.__name__:
            self._push(unit, attempt=attempt, due=now)
            return []
        if failure.reach == "file" and len(unit.pieces) > 1:
            parts = split(unit)
            for part in parts:
                self._push(part, attempt=1, due=now)
            return [Split(unit=unit, parts=parts, reason=failure.message)]
        if failure.retry and attempt < self._max_attempts:
            self._push(unit, attempt=attempt + 1, due=now + RETRY_DELAY_S * 2 ** (attempt - 1))
            return [Retry(unit=unit, attempt=attempt, reason=failure.message)]
        return [Quarantine(unit=unit, attempts=attempt, reason=failure.message)]

    def _push(self, unit: Unit, *, attempt: int, due: float) -> None:
        self._pushed += 1
        heapq.heappush(self._again, (due, self._pushed, unit, attempt))


def split(unit: Unit) -> tuple[Unit, ...]:
    """Cuts a unit into one unit a piece; their names sort where the whole would, and tell which unit they replace."""
    share = unit.size_bytes // len(unit.pieces)
    return tuple(
        replace(unit, name=f"{unit.name}.{i:04d}", pieces=(piece,), size_bytes=share)
        for i, piece in enumerate(unit.pieces)
    )


def parent(unit_name: str) -> str:
    """The planned unit that this one is, or is a part of."""
    return unit_name.split(".", 1)[0]
