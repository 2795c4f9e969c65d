"""Who has which unit: a pure state machine.

Events and the time go in, decisions come out. It does no I/O, reads no clock and starts no thread, so that thousands of
failures can be played through in seconds. Units are drawn from an iterator as workers ask for them: only those in hand,
or waiting for another try, are held in memory.

**Suspects.** A worker that dies had several units in hand, and nobody saw which of them did it, if any. Each is handed
out again alone: to a worker that has nothing else, and that counts the unit's rows before it begins. Only of a loss
then is the unit guilty. One that is guilty too often is cut: into its pieces, then its rows into halves, and halves of
halves, until a row is alone; the rest is done on the way. If nobody could even count the rows, the file is to blame.

**Stragglers.** When nothing else is left, a unit that takes much longer than others is handed out a second time. The
first that is done counts; a copy that fails while the other goes on does not.
"""

from __future__ import annotations

import heapq
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pipeline.cutting import by_piece, halves, is_part, is_range
from pipeline.decisions import Abort, Assign, Decision, Drop, End, Failure, Quarantine, Retire, Retry, Split
from pipeline.errors import HandedBack, StorageUnavailable, StorageUnreachable, WorkerError
from pipeline.units import Unit

RETRY_DELAY_S = 1.0  # before the second try; doubles with each further one
STALL_S = 600.0  # without a step or a word, with units in hand: a worker hangs
LOAD_S = 1800.0  # without being ready, since its process's first word: it hangs too (the model may come from far away)
LOOK_S = 1.0  # between looks for workers that hang
SLEPT_S = 30.0  # between two looks: it was us who did not look (a laptop that slept), so nobody was silent

# With nobody to blame and no unit done in between: then something is wrong with all of them. Those that were at work
# when the first was lost are not counted: they may have gone with it, on the same node.
MAX_LOST_WORKERS = 8
MAX_HUNG_LOADING = 3  # times, with no worker ready and no unit done in between
MAX_LOST_TO_SUSPECTS = 32  # units of many rows, no unit done in between: it is not the rows that kill workers

STRAGGLER_FACTOR = 2.0  # times as long as the median
STRAGGLER_S = 10.0  # and at least so long
STRAGGLER_SAMPLE = 101  # the last units done, of which the median is taken; from 3 on it says something


@dataclass(slots=True, kw_only=True, eq=False)
class _Attempt:
    """A unit that waits, or is in hand: of one worker, or of two if it is a straggler."""

    unit: Unit
    number: int = 1
    alone: bool = False  # a suspect
    num_rows: int | None = None  # once a worker has counted them
    num_done: int = 0  # units that were done in this run when it was handed out
    holders: dict[str, float] = field(default_factory=dict)  # worker -> since when

    @property
    def counted(self) -> Unit:
        """The unit; a range without an end goes as far as rows were counted."""
        if self.num_rows is None or not is_range(self.unit) or self.unit.stop_row is not None:
            return self.unit
        return replace(self.unit, stop_row=self.unit.first_row + self.num_rows)


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    heard_at: float
    num_steps: int = 0
    leaving: bool = False
    units: dict[str, _Attempt] = field(default_factory=dict)

    def has_room(self, slots: int) -> bool:
        return not self.leaving and len(self.units) < slots and not self.has_suspect

    @property
    def has_suspect(self) -> bool:
        return any(attempt.alone for attempt in self.units.values())


class Ledger:
    """Hands every unit to a worker until it is committed or given up."""

    def __init__(
        self,
        units: Iterable[Unit],
        *,
        max_attempts: int = 3,
        slots: int = 2,
        stall_s: float = STALL_S,
        load_s: float = LOAD_S,
    ) -> None:
        """
        Args:
            units: what is to be done, in order; drawn lazily.
            max_attempts: tries at a unit before it is cut or given up.
            slots: units that a worker holds at once, so that the next is read while one is on the device.
            stall_s: how long a worker with units in hand may show no sign of life.
            load_s: how long a worker may load its model.
        """
        self._fresh = iter(units)
        self._exhausted = False
        self._later: list[tuple[float, int, _Attempt]] = []  # due time, tie-breaker
        self._pushed = 0
        self._again: deque[_Attempt] = deque()  # due
        self._suspects: deque[_Attempt] = deque()  # due, each for a worker that has nothing else
        self._in_hand: dict[str, _Attempt] = {}
        self._loading: dict[str, float] = {}  # workers whose process has begun, and since when
        self._workers: dict[str, _Worker] = {}
        self._with_room: dict[str, _Worker] = {}
        self._gone: set[str] = set()  # workers: lost, ended, or about to leave
        self._max_attempts = max_attempts
        self._slots = slots
        self._stall_s = stall_s
        self._load_s = load_s
        self._looked_at: float | None = None
        self._draining = False
        self._num_done = 0
        self._lost_in_a_row = self._lost_to_suspects = self._hung_loading = 0
        self._beside_first_lost = 0  # workers
        self._durations: deque[float] = deque(maxlen=STRAGGLER_SAMPLE)

    @property
    def done(self) -> bool:
        """Whether nobody has a unit in hand, and nothing is handed out any more."""
        return not self._in_hand and (self._draining or not self.unfinished)

    @property
    def unfinished(self) -> bool:
        """Whether there are units that nobody has in hand."""
        return not self._exhausted or bool(self._later or self._again or self._suspects)

    @property
    def num_in_flight(self) -> int:
        return len(self._in_hand)

    @property
    def num_workers(self) -> int:
        """Workers that are ready, or at work."""
        return len(self._workers)

    @property
    def num_gone(self) -> int:
        """Workers that were lost or ended, or are about to leave; also such as were never ready."""
        return len(self._gone)

    def wanted(self, most: int) -> int:
        """How many workers there is something to do for, of the `most` that there may be."""
        if not self._exhausted:
            return most
        return min(most, len(self._later) + len(self._again) + len(self._suspects) + len(self._in_hand))

    def holds(self, worker: str, unit: str) -> bool:
        """Whether what the worker says of the unit counts: it was given to it, and not taken away since."""
        holder = self._workers.get(worker)
        return holder is not None and unit in holder.units

    def worker_ready(self, worker: str, now: float) -> list[Decision]:
        """A worker has its model loaded and takes units."""
        if worker not in self._workers and worker not in self._gone:
            self._loading.pop(worker, None)
            self._hung_loading = 0
            self._workers[worker] = self._with_room[worker] = _Worker(heard_at=now)
        return self.tick(now)

    def worker_progressed(self, worker: str, num_steps: int, now: float) -> list[Decision]:
        """A worker has done so many steps by now. Only a new one is a sign of life, or the first word of all."""
        known = self._workers.get(worker)
        if known is None:
            if worker not in self._gone:
                self._loading.setdefault(worker, now)
        elif known.num_steps != num_steps:
            known.num_steps, known.heard_at = num_steps, now
        return self.tick(now)

    def worker_leaving(self, worker: str, now: float) -> list[Decision]:
        """A worker's machine is about to be taken away: it gets nothing more, and its loss is nobody's fault."""
        self._gone.add(worker)
        self._loading.pop(worker, None)
        known = self._workers.get(worker)
        if known is not None:
            known.leaving = True
            self._with_room.pop(worker, None)
        return self.tick(now)

    def worker_lost(self, worker: str, reason: str, now: float) -> list[Decision]:
        """A worker is gone; what it had in hand goes to others. Losing one that is gone changes nothing."""
        if worker in self._gone and worker not in self._workers:
            return []
        return self._lose(worker, reason, now) + self.tick(now)

    def unit_counted(self, worker: str, unit: str, num_rows: int, now: float) -> list[Decision]:
        """A worker has counted the rows of a suspect, and begins with it."""
        self._hear(worker, now)
        if self.holds(worker, unit):
            self._in_hand[unit].num_rows = num_rows
        return self.tick(now)

    def unit_done(self, worker: str, unit: str, now: float) -> list[Decision]:
        """A worker has committed a unit (or found it committed). Changes nothing if the worker no longer has it."""
        self._hear(worker, now)
        decisions: list[Decision] = []
        if self.holds(worker, unit):
            attempt = self._in_hand[unit]
            self._durations.append(now - attempt.holders[worker])
            self._num_done += 1
            self._lost_in_a_row = self._lost_to_suspects = self._hung_loading = 0
            for holder in list(attempt.holders):
                self._release(holder, unit)
                if holder != worker:
                    decisions.append(Drop(unit=unit, worker=holder))
        return decisions + self.tick(now)

    def unit_failed(self, worker: str, unit: str, failure: Failure, now: float) -> list[Decision]:
        """A worker could not finish a unit. Changes nothing if the worker no longer has it."""
        self._hear(worker, now)
        decisions: list[Decision] = []
        if self.holds(worker, unit):
            attempt = self._release(worker, unit)
            if not attempt.holders or failure.reach == "run":
                decisions = self._after_failure(attempt, failure, now)
        return decisions + self.tick(now)

    def drain(self) -> None:
        """From now on hands out nothing; units that fail wait for another run."""
        self._draining = True
        if attempt := self._next():  # whether there is more is known only when it is drawn
            self._again.append(attempt)

    def tick(self, now: float) -> list[Decision]:
        """Hands out what is due to workers with a free slot, the emptiest first; ends those that hang."""
        decisions = self._end_stalled(now)
        if self._draining:
            return decisions
        while self._later and self._later[0][0] <= now:
            attempt = heapq.heappop(self._later)[2]
            (self._suspects if attempt.alone else self._again).append(attempt)
        if not self._suspects:
            decisions += self._hand_out(self._with_room, now)
        if self._suspects:
            decisions += self._hand_out_suspects(now)
        if self._exhausted and not (self._later or self._again or self._suspects) and self._with_room:
            decisions += self._copy_stragglers(now)
            decisions += self._retire_idle()
        return decisions

    def _hand_out(self, workers: dict[str, _Worker], now: float) -> list[Decision]:
        decisions: list[Decision] = []
        while workers and (attempt := self._next()):
            name = min(workers, key=self._fullness)
            decisions.append(self._give(name, attempt, now))
            if not self._workers[name].has_room(self._slots):
                workers.pop(name, None)
        return decisions

    def _hand_out_suspects(self, now: float) -> list[Decision]:
        """To workers with empty hands; the emptiest of the others get nothing until they are."""
        decisions: list[Decision] = []
        by_fullness = deque(sorted(self._with_room, key=self._fullness))
        while self._suspects and by_fullness and not self._workers[by_fullness[0]].units:
            decisions.append(self._give(by_fullness.popleft(), self._suspects.popleft(), now))
        kept_free = len(self._suspects)
        rest = {name: self._workers[name] for name in list(by_fullness)[kept_free:]}
        return decisions + self._hand_out(rest, now)

    def _next(self) -> _Attempt | None:
        if self._again:
            return self._again.popleft()
        while not self._exhausted:
            unit = next(self._fresh, None)
            if unit is None:
                self._exhausted = True
            elif is_range(unit):  # an earlier run has cut it so far, for good reason
                self._suspects.append(_Attempt(unit=unit, alone=True))
            else:
                return _Attempt(unit=unit)
        return None

    def _copy_stragglers(self, now: float) -> list[Decision]:
        if len(self._durations) < 3:
            return []
        idle = [name for name, worker in self._with_room.items() if not worker.units]
        longest = max(STRAGGLER_S, STRAGGLER_FACTOR * statistics.median(self._durations))
        late = [
            (since, attempt.unit.name)
            for attempt in self._in_hand.values()
            if not attempt.alone and len(attempt.holders) == 1
            for since in attempt.holders.values()
            if now - since > longest
        ]
        return [
            self._give(worker, self._in_hand[unit], now) for worker, (_, unit) in zip(idle, sorted(late), strict=False)
        ]

    def _retire_idle(self) -> list[Decision]:
        """Keeps an idle worker for each unit in hand, should it have to be done again."""
        idle = [name for name, worker in self._with_room.items() if not worker.units]
        retired = idle[len(self._in_hand) :]
        for name in retired:
            self._forget(name)
        return [Retire(worker=name) for name in retired]

    def _end_stalled(self, now: float) -> list[Decision]:
        waited_s = 0.0 if self._looked_at is None else now - self._looked_at
        if self._looked_at is not None and 0 <= waited_s < LOOK_S:
            return []
        self._looked_at = now
        decisions: list[Decision] = []
        for name, worker in list(self._workers.items()):
            if waited_s > SLEPT_S or waited_s < 0:
                worker.heard_at = now
            elif worker.units and now - worker.heard_at > self._stall_s:
                reason = f"it hangs: no step in {self._stall_s:g} s (limits.stall_s)"
                decisions += [End(worker=name, reason=reason), *self._lose(name, reason, now)]
        return decisions + self._end_loading(now, slept=waited_s > SLEPT_S or waited_s < 0)

    def _end_loading(self, now: float, *, slept: bool) -> list[Decision]:
        """Those that began together hang together: they count as one attempt."""
        if slept:
            self._loading = dict.fromkeys(self._loading, now)
        hung = [name for name, since in self._loading.items() if now - since > self._load_s]
        if not hung:
            return []
        self._hung_loading += 1
        for name in hung:
            self._forget(name)
        reason = f"it hangs: its model is not loaded after {self._load_s:g} s (limits.load_s)"
        return [*(End(worker=name, reason=reason) for name in hung), *self._beyond_hope(reason)]

    def _lose(self, name: str, reason: str, now: float) -> list[Decision]:
        worker = self._forget(name)
        attempts = list(worker.units.values()) if worker else []
        for attempt in attempts:
            del attempt.holders[name]
        concerned = [attempt for attempt in attempts if not attempt.holders]
        for attempt in concerned:
            del self._in_hand[attempt.unit.name]
        decisions: list[Decision] = []
        if worker is not None and worker.leaving:
            for attempt in concerned:
                self._push(attempt, due=now)
        elif worker is not None and worker.has_suspect:
            for attempt in concerned:
                found = is_range(attempt.unit) and attempt.num_rows == 1
                self._lost_to_suspects += not found
                failure = Failure(kind=WorkerError.__name__, message=f"its worker was lost: {reason}")
                decisions += self._after_failure(attempt, failure, now)
        else:
            if not self._lost_in_a_row:
                self._beside_first_lost = len(self._workers)
            self._lost_in_a_row += 1
            for attempt in concerned:
                decisions.append(Retry(unit=attempt.unit, attempt=attempt.number, reason=reason))
                attempt.alone = True
                self._push(attempt, due=now)
        return decisions + self._beyond_hope(reason)

    def _beyond_hope(self, reason: str) -> list[Decision]:
        if self._lost_in_a_row >= MAX_LOST_WORKERS + self._beside_first_lost:
            message = f"{self._lost_in_a_row} workers were lost in a row; the last: {reason}"
        elif self._hung_loading >= MAX_HUNG_LOADING and not self._workers:
            message = (
                f"{self._hung_loading} times in a row no worker has loaded the model in {self._load_s:g} s. See "
                "whether their machines reach the place where it lies (model.path), or give them more time "
                "(limits.load_s)"
            )
        elif self._lost_to_suspects >= MAX_LOST_TO_SUSPECTS:
            message = (
                f"{self._lost_to_suspects} workers were lost in a row, each with one unit in hand, and none was done "
                f"in between: it is not a bad row that ends them; the last: {reason}"
            )
        else:
            return []
        return [Abort(failure=Failure(kind=WorkerError.__name__, message=message, reach="run"))]

    def _after_failure(self, attempt: _Attempt, failure: Failure, now: float) -> list[Decision]:
        """What becomes of a unit that nobody has in hand any more."""
        unit, number = attempt.unit, attempt.number
        if failure.reach == "run":
            return [Abort(failure=failure)]
        if failure.kind == HandedBack.__name__:
            self._push(attempt, due=now)
            return []
        if failure.reach == "file":
            if len(unit.pieces) > 1:
                return self._cut(unit, by_piece(unit), failure, now, alone=False)
            return [Quarantine(unit=unit, attempts=number, reason=failure.message)]

        of_storage = failure.kind in (StorageUnavailable.__name__, StorageUnreachable.__name__)
        others_went_well = self._num_done > attempt.num_done
        exhausted = number >= self._max_attempts or not failure.retry
        if not of_storage:
            if attempt.alone and (exhausted or is_part(unit.name)):
                if len(unit.pieces) > 1:
                    return self._cut(unit, by_piece(unit), failure, now, alone=True)
                if attempt.num_rows is not None and attempt.num_rows > 1:
                    return self._cut(unit, halves(unit, attempt.num_rows), failure, now, alone=True)
            exhausted = exhausted and attempt.alone
            attempt.alone = True
        if not exhausted:
            attempt.number += 1
            self._push(attempt, due=now + RETRY_DELAY_S * 2 ** (number - 1))
            return [Retry(unit=unit, attempt=number, reason=failure.message)]
        if of_storage and not others_went_well:  # it is not the unit, and would go on to be the same with all others
            return [Abort(failure=failure)]
        return [Quarantine(unit=attempt.counted, attempts=number, reason=failure.message)]

    def _cut(self, unit: Unit, parts: tuple[Unit, ...], failure: Failure, now: float, *, alone: bool) -> list[Decision]:
        for part in parts:
            self._push(_Attempt(unit=part, alone=alone), due=now)
        return [Split(unit=unit, parts=parts, reason=failure.message)]

    def _give(self, name: str, attempt: _Attempt, now: float) -> Assign:
        worker = self._workers[name]
        if not worker.units:
            worker.heard_at = now  # it had nothing to say anything of
        copy = bool(attempt.holders)
        if not copy:
            attempt.num_done = self._num_done
        attempt.holders[name] = now
        worker.units[attempt.unit.name] = self._in_hand[attempt.unit.name] = attempt
        if not worker.has_room(self._slots):
            self._with_room.pop(name, None)
        return Assign(unit=attempt.unit, worker=name, attempt=attempt.number, alone=attempt.alone, copy=copy)

    def _release(self, name: str, unit: str) -> _Attempt:
        """Takes a unit out of a worker's hands."""
        worker = self._workers[name]
        attempt = worker.units.pop(unit)
        del attempt.holders[name]
        if not attempt.holders:
            del self._in_hand[unit]
        if worker.has_room(self._slots):
            self._with_room[name] = worker
        return attempt

    def _forget(self, name: str) -> _Worker | None:
        self._gone.add(name)
        self._loading.pop(name, None)
        self._with_room.pop(name, None)
        return self._workers.pop(name, None)

    def _hear(self, worker: str, now: float) -> None:
        if worker in self._workers:
            self._workers[worker].heard_at = now

    def _fullness(self, worker: str) -> tuple[int, str]:
        return len(self._workers[worker].units), worker

    def _push(self, attempt: _Attempt, *, due: float) -> None:
        self._pushed += 1
        heapq.heappush(self._later, (due, self._pushed, attempt))
