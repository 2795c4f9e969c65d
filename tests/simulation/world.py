"""One simulated life of an output folder, drawn from a seed: what is there, what happens, and what must always hold.

First a stretch of bad weather: drivers are started, killed, stopped and paused, workers die in every way, the store is
late, out, or loses replies, input is added and changed. Then the weather is calm and drivers run until one says that
all is done. Only what the input itself holds (rows that kill a worker, damaged files) may then be in quarantine, and
what was struck by as many faults as a unit may have.
"""

from __future__ import annotations

import functools
import heapq
import io
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest import mock

from pipeline import driver as driver_module
from pipeline import lease, plans
from pipeline import output as folder
from pipeline import run as run_module
from pipeline.cutting import parent, winners
from pipeline.lease import STALE_S
from pipeline.plans import read_plans, superseded
from pipeline.resume import Progress
from pipeline.units import InputFile, Piece, Unit
from tests.simulation.drivers import ATTEMPTS, DriverProcess, watched
from tests.simulation.store import Caller, Killed, SimStorage, unavailable
from tests.simulation.workers import SimWorker

WEATHER_S = 900.0  # how long the bad weather lasts
CALM_S = 50_000.0  # in which a job in calm weather must be done
MAX_CALM_RUNS = 4  # the first may still find the lease of a dead driver, or what zombies have left
UNIT_ROWS = 8

# The most that a kind of fault may happen, by occasion; a seed draws each between nothing and that.
FAULTS = {
    "never_ready": 0.1,
    "dies_loading": 0.1,
    "crash": 0.15,
    "hangs": 0.05,
    "slow": 0.1,
    "odd_error": 0.1,
    "reply_lost": 0.05,
    "said_twice": 0.2,
    "zombie": 0.5,
    "killed_at_operation": 0.002,
    "paused_at_operation": 0.01,
    "write_reply_lost": 0.02,
}


_units_of, _superseded_by = plans._units_of, plans._superseded_by


@functools.lru_cache(maxsize=32)
def read_once(plan: bytes) -> tuple[list[Unit], list[str]]:
    """A plan by its content: to read Parquet takes longer than all else."""

    class One:
        url_of = staticmethod(str)

        @staticmethod
        def open_file(path: str) -> io.BytesIO:
            return io.BytesIO(plan)

    return list(_units_of(One(), "")), _superseded_by(One(), "")  # type: ignore[arg-type]


class Violation(AssertionError):
    """Something that must always hold does not."""

    trace: tuple[str, ...] = ()  # all that happened until then


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input file: its version and how many rows that has."""

    fingerprint: str
    num_rows: int


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.trace: list[str] = []
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._num_events = 0
        self.calm = False
        self.disturbed_at = 0.0  # when storage or a driver last did not answer
        self._depth = 0  # of drivers that are paused at an operation while others go on
        self.stepping: list[DriverProcess] = []

        self.files: dict[str, bytes] = {}
        self.visible_at: dict[str, float] = {}
        self.made_at: dict[str, int] = {}
        self.num_operations = 0
        self.is_exclusive = True
        self._outage_until = 0.0
        self._contents: dict[str, bytes] = {}  # of every part that ever was
        self._harm: dict[str, int] = defaultdict(int)  # faults that struck a unit
        self.drivers: list[DriverProcess] = []
        self.all_workers: list[SimWorker] = []

        draw = self.random.random
        self._odds = {name: most * draw() * (draw() < 0.6) for name, most in FAULTS.items()}
        self._lag_s = self.random.uniform(0, 20) if draw() < 0.3 else 0.0
        self.max_workers = self.random.randint(1, 4)
        self.inputs: dict[str, Input] = {}
        self.poison: set[str] = set()
        self.bad_files: set[str] = set()
        self.deadly_files: set[str] = set()
        for _ in range(self.random.randint(1, 5)):
            self._add_file()
        # All calls on the store are by callers; this one looks at it from outside.
        self._outside = SimStorage(self, Caller("outside"))

    # Time.

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (self.now + seconds, self._num_events, action))

    def run_until(self, end: float, done: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= end and not done():
            at, _, action = heapq.heappop(self._events)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, end) if not done() else self.now

    def note(self, what: str) -> None:
        self.trace.append(f"{self.now:9.2f}  {what}")

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.note(f"VIOLATION: {what}")
            raise Violation(f"seed {self.seed}, at {self.now:.2f}: {what}")

    def chance(self, fault: str) -> bool:
        return not self.calm and self.random.random() < self._odds[fault]

    # The input.

    def _add_file(self) -> None:
        url = f"in/{len(self.inputs):02d}"
        self._write_file(url)
        if self.random.random() < 0.15:
            self.bad_files.add(url)
        elif self.random.random() < 0.1:
            self.deadly_files.add(url)

    def _write_file(self, url: str) -> None:
        version = f"v{self.num_operations}-{len(self.trace)}"
        self.inputs[url] = Input(fingerprint=version, num_rows=self.random.choice((1, 2, 3, 5, 8, 13, 21, 30)))
        if self.random.random() < 0.3:
            for _ in range(self.random.choice((1, 1, 2, 4))):
                self.poison.add(f"{url}@{version}#{self.random.randrange(self.inputs[url].num_rows)}")
        self.note(f"input {url} is {self.inputs[url]}")

    def input_files(self) -> list[InputFile]:
        return [
            InputFile(url=url, format="text", size_bytes=found.num_rows, fingerprint=found.fingerprint)
            for url, found in self.inputs.items()
        ]

    def plan_units(
        self, files: Iterator[InputFile], source: Any, *, plan_number: int, **options: Any
    ) -> Iterator[Unit]:
        """Units of a few rows, in place of the real planner, which reads files."""
        held: list[Piece] = []

        def unit(index: int) -> Unit:
            digest = zlib.crc32(repr(held).encode())
            return Unit(name=f"{plan_number:05d}-{index:06d}-{digest:08x}", pieces=tuple(held), size_bytes=1)

        index = held_rows = 0
        for file in files:
            if held and held_rows + file.size_bytes > UNIT_ROWS:  # files that are whole, or some of one
                yield unit(index)
                index, held, held_rows = index + 1, [], 0
            for start in range(0, file.size_bytes, UNIT_ROWS):
                stop = min(start + UNIT_ROWS, file.size_bytes)
                if held and held_rows + stop - start > UNIT_ROWS:
                    yield unit(index)
                    index, held, held_rows = index + 1, [], 0
                held.append(Piece(file=file, start=start, stop=stop))
                held_rows += stop - start
            if file.size_bytes > UNIT_ROWS:
                yield unit(index)
                index, held, held_rows = index + 1, [], 0
        if held:
            yield unit(index)

    @staticmethod
    def rows(unit: Unit) -> list[str]:
        everything = [
            f"{piece.file.url}@{piece.file.fingerprint}#{row}"
            for piece in unit.pieces
            for row in range(piece.start, piece.stop or 0)
        ]
        return everything[unit.first_row : unit.stop_row]

    def content(self, unit: Unit, worker: str) -> bytes:
        """Of a part: a function of the unit alone, whoever makes it."""
        return json.dumps(self.rows(unit)).encode()

    def has_poison(self, unit: Unit) -> bool:
        return not self.poison.isdisjoint(self.rows(unit))

    def kills_readers(self, unit: Unit) -> bool:
        return any(piece.file.url in self.deadly_files for piece in unit.pieces)

    def harm(self, unit: Unit | str) -> None:
        self._harm[unit if isinstance(unit, str) else unit.name] += 1

    # The store.

    def before_operation(self, caller: Caller, what: str) -> None:
        self.num_operations += 1
        if caller.dead:
            raise Killed
        if caller is getattr(self, "_outside", None):
            return
        if self.now < self._outage_until and not self.calm:
            self.disturbed_at = self.now
            raise unavailable("an outage")
        if not caller.is_driver:
            return
        if self._depth < 2 and self.chance("paused_at_operation"):
            pause = self.random.choice((1.0, 30.0, 200.0))
            self.note(f"{caller.name} is paused for {pause:.0f} s at: {what}")
            if pause > 100 and self.random.random() < 0.5:
                self.after(self.random.uniform(1, 50), self._start_driver)
            self._depth += 1
            caller.is_paused = True
            self.run_until(self.now + pause)
            caller.is_paused = False
            if pause > STALE_S:
                caller.slept_at = self.num_operations
            self._depth -= 1
            self.disturbed_at = self.now
            if caller.dead:
                raise Killed
        if self.chance("killed_at_operation"):
            self.note(f"{caller.name} dies before: {what}")
            raise Killed

    def after_write(self, caller: Caller, path: str) -> None:
        if self.chance("write_reply_lost"):
            self.note(f"{caller.name}: the reply is lost for {path}")
            raise unavailable("the reply was lost")
        if caller.is_driver and self.chance("killed_at_operation"):
            self.note(f"{caller.name} dies after writing {path}")
            raise Killed

    def put(self, caller: Caller, path: str, body: bytes) -> None:
        if path not in self.files and self._lag_s and not self.calm:
            self.visible_at[path] = self.now + self.random.uniform(0, self._lag_s)
        if path not in self.files:
            self.made_at[path] = self.num_operations
        self.files[path] = body
        if path.startswith(folder.PART_PREFIX):
            self.note(f"{caller.name} commits {path}")
            name = path.removeprefix(folder.PART_PREFIX).removesuffix(folder.PART_SUFFIX)
            self.expect(self._contents.setdefault(name, body) == body, f"{path} is not what it was")
            self._check_what_counts(name)
        elif path == folder.SUCCESS:
            self.note(f"{caller.name} writes {path}")
            self._check_success(caller)

    def drop(self, caller: Caller, path: str) -> None:
        if self.files.pop(path, None) is not None and not path.startswith(folder.ROOT):
            self.note(f"{caller.name} removes {path}")

    def lease_holder(self) -> str | None:
        with suppress(KeyError, ValueError):
            return str(json.loads(self.files[folder.LEASE])["run_id"])
        return None

    # What must always hold.

    def _parts(self, *, made_before: float = float("inf")) -> dict[str, list[str]]:
        return {
            path.removeprefix(folder.PART_PREFIX).removesuffix(folder.PART_SUFFIX): json.loads(body)
            for path, body in self.files.items()
            if path.startswith(folder.PART_PREFIX) and self.made_at[path] < made_before
        }

    def _check_what_counts(self, name: str) -> None:
        """After each commit: of the parts of one planned unit, no two that count have a row in common."""
        family = {other: rows for other, rows in self._parts().items() if parent(other) == parent(name)}
        counted = [row for other in winners(family)[0] for row in family[other]]
        self.expect(len(counted) == len(set(counted)), f"rows of {parent(name)} count twice: {sorted(family)}")

    def _check_success(self, caller: Caller) -> None:
        """All that the driver could see when it last looked is whole and there once.

        Unless it slept since then, for longer than a lease lasts: no store lets it be told before it writes.
        """
        slept = caller.slept_at > caller.listed_at
        if slept or self.lease_holder() != caller.name or (self._lag_s and not self.calm):
            return
        visible_at, self.visible_at = self.visible_at, {}
        listed = {path: body for path, body in self.files.items() if self.made_at.get(path, 0) < caller.listed_at}
        everything, self.files = self.files, listed
        try:
            missing, doubled, _ = self._account()
        finally:
            self.files, self.visible_at = everything, visible_at
        self.expect(not missing, f"{folder.SUCCESS} is written, and rows are missing: {missing[:5]}")
        self.expect(not doubled, f"{folder.SUCCESS} is written, and rows are there twice: {doubled[:5]}")

    def _account(self) -> tuple[list[str], list[str], list[tuple[Unit, list[str]]]]:
        """Rows of the plans in force that are nowhere, or in more than one place; and what is in quarantine."""
        times: dict[str, int] = defaultdict(int)
        for rows in self._parts().values():
            for row in rows:
                times[row] += 1
        progress = Progress.of(self._outside)
        planned: list[str] = []
        given_up: list[tuple[Unit, list[str]]] = []
        for whole in read_plans(self._outside, progress.superseded):
            planned += self.rows(whole)
            for unit in progress.resolve(whole):
                if unit.name in progress.quarantined:
                    given_up.append((unit, self.rows(unit)))
                    for row in self.rows(unit):
                        times[row] += 1
        self.expect(len(planned) == len(set(planned)), "a row is planned twice")
        missing = [row for row in planned if not times[row]]
        doubled = [row for row, number in times.items() if number > 1] + sorted(times.keys() - set(planned))
        return missing, doubled, given_up

    def _check_end(self) -> None:
        missing, doubled, given_up = self._account()
        self.expect(not missing, f"rows are lost: {missing[:5]}")
        self.expect(not doubled, f"rows are there twice: {doubled[:5]}")
        self.expect(folder.SUCCESS in self.files, f"all is done, and there is no {folder.SUCCESS}")
        planned = {row for unit in read_plans(self._outside, superseded(self._outside)) for row in self.rows(unit)}
        expected = {
            f"{url}@{found.fingerprint}#{row}" for url, found in self.inputs.items() for row in range(found.num_rows)
        }
        self.expect(planned == expected, f"not planned: {sorted(expected - planned)[:5]}")
        for unit, rows in given_up:
            spoilt = any(piece.file.url in self.bad_files | self.deadly_files for piece in unit.pieces)
            found = len(rows) == 1 and rows[0] in self.poison
            self.expect(
                spoilt or found or self._harm[unit.name] >= ATTEMPTS,
                f"{unit.name} is in quarantine and nothing is wrong with it: {rows[:5]}",
            )

    # What happens.

    def live(self) -> None:
        """Bad weather, then calm, then the end."""
        current = lambda: self.stepping[-1]
        with (
            mock.patch.object(run_module, "plan_units", self.plan_units),
            mock.patch.object(driver_module, "Ledger", watched(current)),
            mock.patch.multiple(lease, _machine=lambda: None, _start_time=lambda pid: None),
            mock.patch.object(plans, "_units_of", lambda output, path: read_once(output.read_bytes(path))[0]),
            mock.patch.object(plans, "_superseded_by", lambda output, path: read_once(output.read_bytes(path))[1]),
        ):
            for _ in range(self.random.randint(1, 4)):
                self.after(self.random.uniform(0, WEATHER_S * 0.7), self._start_driver)
            for _ in range(self.random.randint(0, 12)):
                self.after(self.random.uniform(0, WEATHER_S), self._strike)
            self.run_until(WEATHER_S)
            self._calm_down()
            for number in range(MAX_CALM_RUNS):
                state = self._calm_run(f"calm{number}")
                if state == "done":
                    break
            self.expect(state == "done", f"in calm weather the job ends as {state}")
            self._check_end()
            before = dict(self.files)
            self.expect(self._calm_run("again") == "done", "the same run once more does not end")
            parts = {path for path in before.keys() ^ self.files.keys() if path.startswith(folder.PART_PREFIX)}
            self.expect(not parts, f"the same run once more changes {sorted(parts)}")

    def _calm_down(self) -> None:
        self.note("the weather is calm from here on")
        for process in self.drivers:
            process.kill()
        self.run_until(self.now + 1000.0)  # what zombies have begun, they end
        for process in self.drivers:
            process.kill()
        for worker in self.all_workers:
            worker.dead = True
        self.calm = True
        self.visible_at.clear()

    def _calm_run(self, name: str) -> str:
        process = self._start_driver(name)
        self.run_until(self.now + CALM_S, lambda: process.over)
        self.expect(process.over, f"{name} does not come to an end")
        return process.summary.state if process.summary else "failed"

    def _start_driver(self, name: str = "") -> DriverProcess:
        process = DriverProcess(self, name or f"d{len(self.drivers)}")
        self.note(f"{process.name} is started")
        self.drivers.append(process)
        return process

    def _strike(self) -> None:
        """One of the things that happen from outside."""
        alive = [process for process in self.drivers if not process.over]
        workers = [worker for worker in self.all_workers if not worker.dead]
        what = self.random.choice(("driver", "driver", "stop", "input", "input", "outage", "clock", "worker", "worker"))
        if what == "driver" and alive:
            self._pick(alive).kill()
            self.after(self.random.uniform(0, 30), self._start_driver)
        elif what == "driver":
            self._start_driver()
        elif what == "stop" and alive:
            self.note("a driver is asked to stop")
            self._pick(alive).stop.requested = True
        elif what == "input" and self.random.random() < 0.5:
            self._add_file()
        elif what == "input":
            self._write_file(self._pick(sorted(self.inputs)))
        elif what == "outage":
            self._outage_until = self.now + self.random.choice((5.0, 60.0, 300.0))
            self.note(f"storage is out until {self._outage_until:.0f}")
        elif what == "clock" and alive:
            self.note("a clock jumps")
            self._pick(alive).clock.skew += self.random.choice((20.0, 500.0, 5000.0))
            self.disturbed_at = self.now
        elif what == "worker" and workers:
            worker = self._pick(workers)
            self._pick([worker.leave, worker.vanish, lambda: self._crash(worker)])()

    def _crash(self, worker: SimWorker) -> None:
        for unit, _ in worker.queue:
            self.harm(unit)
        worker.die("its machine is gone")

    def _pick(self, things: Sequence[Any]) -> Any:
        return things[self.random.randrange(len(things))]


def simulate(seed: int) -> World:
    """Plays one seed.

    Raises:
        Violation: with the seed; the world's trace tells what happened.
    """
    world = World(seed)
    try:
        world.live()
    except Violation as violation:
        violation.trace = tuple(world.trace)
        raise
    return world
