"""A driver's process in virtual time: the real lease rule, the real planning, the real driver, in steps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline import driver as driver_module
from pipeline import output as folder
from pipeline import run as run_module
from pipeline.changes import changes
from pipeline.clock import Clock
from pipeline.errors import ShardmillError
from pipeline.events import Event, RunSummary, UnitCommitted, UnitQuarantined, UnitSplit
from pipeline.lease import RENEW_S, LeaseRule
from pipeline.ledger import Ledger
from pipeline.options import InputOptions, LimitOptions, WorkerOptions
from pipeline.plans import num_plans
from pipeline.resume import Progress
from tests.simulation.store import Caller, Killed, SimStorage
from tests.simulation.workers import SLOTS, SimPool

if TYPE_CHECKING:
    from tests.simulation.world import World

POLL_S = 5.0  # between two steps without news
STALL_S = 100.0
ATTEMPTS = 3
SOURCE = InputOptions(url=("sim://in",))


class SimClock(Clock):
    def __init__(self, world: World) -> None:
        self._world = world
        self.skew = world.random.uniform(0, 1000)

    def monotonic(self) -> float:
        return self._world.now + self.skew

    def time(self) -> float:
        return self._world.now + self.skew


class DriverProcess(Caller):
    def __init__(self, world: World, name: str, *, retry: bool = False) -> None:
        super().__init__(name, is_driver=True)
        self._world = world
        self._retry = retry
        self.clock = SimClock(world)
        self.storage = SimStorage(world, self)
        self.stop = SimpleNamespace(requested=False)
        self.pools: list[SimPool] = []
        self.ledgers: list[tuple[Ledger, dict[str, str]]] = []  # with the state of every unit that was drawn
        self.ended = False  # of itself
        self.summary: RunSummary | None = None
        self._lease = LeaseRule(self.storage, name, clock=self.clock, is_running=lambda holder: None)
        self._holds_lease = False
        self._lost_lease_at: float | None = None
        self._turn = 0
        self._in_step = False
        self._steps = self._main()
        world.after(0, self.step)

    @property
    def over(self) -> bool:
        return self.ended or self.dead

    def wake(self) -> None:
        if not self._in_step and not self.over:
            self._plan_step(0.0)

    def _plan_step(self, delay: float) -> None:
        self._turn += 1
        turn = self._turn
        self._world.after(delay, lambda: self.step() if turn == self._turn else None)

    def step(self) -> None:
        if self._in_step or self.over:
            return
        self._in_step = True
        self._world.stepping.append(self)
        try:
            delay = next(self._steps)
        except StopIteration:
            self.ended = True
            self._world.note(f"{self.name} has ended: {self.summary and self.summary.state}")
        except ShardmillError as error:
            self.ended = True
            self._world.note(f"{self.name} has failed: {type(error).__name__}: {str(error)[:150]}")
        except Killed:
            self.kill("in the middle of something")
        else:
            self._check_ledger()
            self._plan_step(delay)
        finally:
            self._in_step = False
            self._world.stepping.remove(self)

    def kill(self, how: str = "at once") -> None:
        if self.over:
            return
        self._world.note(f"{self.name} is killed, {how}")
        self.dead = True
        for pool in self.pools:
            pool.stop()
        with suppress(Killed, ValueError):  # what it would still do comes to nothing; or it is just at it
            self._steps.close()

    def expect_lease(self) -> None:
        """A driver whose lease is somebody else's for long gives nothing out any more."""
        holder = self._world.lease_holder()
        if holder in (None, self.name) or self._world.disturbed_at > self._world.now - 3 * RENEW_S:
            self._lost_lease_at = None
        elif self._lost_lease_at is None:
            self._lost_lease_at = self._world.now
        else:
            waited = self._world.now - self._lost_lease_at
            self._world.expect(waited < 3 * RENEW_S, f"{self.name} goes on, and {holder} has the lease")

    def _main(self) -> Generator[float, None, None]:
        while not self._lease.take():
            yield RENEW_S / 5
        self._holds_lease = True
        self._world.after(RENEW_S, self._renew)
        try:
            folder.claim(self.storage, {"name": "simulated", "text": "text", "text_pair": None, "keep": []})
            number = num_plans(self.storage)
            progress = Progress.of(self.storage)
            files = self._world.input_files()
            changed = changes(self.storage, progress, files)
            progress = run_module._plan(self.storage, progress, changed, SOURCE, 0, number)
            driver = driver_module.Driver(
                self.name,
                self.storage,
                self._lease,
                WorkerOptions(max=self._world.max_workers),
                LimitOptions(attempts=ATTEMPTS, stall_s=STALL_S, load_s=STALL_S, bad_units=1000),
                self._on_event,
                clock=self.clock,
            )
            for _ in driver.steps(self._make_pool, changed=changed, progress=progress, stop=self.stop):
                yield POLL_S
            self.summary = driver.summary
        finally:
            self._holds_lease = False
            self._lease.give_back()

    def _renew(self) -> None:
        """The lease's thread."""
        if self.over or not self._holds_lease:
            return
        try:
            if not self.is_paused:
                self._lease.renew()
        except ShardmillError:
            pass  # it is good for some renewals more
        except Killed:
            self.kill("while it renewed its lease")
        self._world.after(RENEW_S, self._renew)

    def _make_pool(self) -> SimPool:
        self.pools.append(SimPool(self._world, self))
        return self.pools[-1]

    def watch(self, ledger: Ledger, drawn: dict[str, str]) -> None:
        self.ledgers.append((ledger, drawn))

    def _on_event(self, event: Event) -> None:
        if not self.ledgers:
            return
        states = self.ledgers[-1][1]
        match event:
            case UnitCommitted(report=report, worker=worker):
                self._world.expect(states.get(report.name) == "open", f"{report.name} counts twice ({worker})")
                states[report.name] = "done"
            case UnitQuarantined(unit=unit, reason=reason):
                self._world.note(f"{self.name}: {unit} goes to quarantine: {reason}")
                states[unit] = "in quarantine"
            case UnitSplit(unit=unit, parts=parts):
                self._world.note(f"{self.name}: {unit} is cut into {', '.join(parts)}")
                states[unit] = "cut"
                states.update(dict.fromkeys(parts, "open"))

    def _check_ledger(self) -> None:
        """Every unit is in one state, and workers hold what they may."""
        if not self.ledgers:
            return
        ledger, states = self.ledgers[-1]
        waiting = [a.unit.name for a in [*ledger._again, *ledger._suspects, *(entry[2] for entry in ledger._later)]]
        in_hand = list(ledger._in_hand)
        world = self._world
        open_units = [name for name, state in states.items() if state == "open"]
        world.expect(
            sorted(waiting + in_hand) == sorted(open_units),
            f"{self.name}: waiting {waiting} and in hand {in_hand}, but open are {open_units}",
        )
        for name, worker in ledger._workers.items():
            suspects = [unit for unit, attempt in worker.units.items() if attempt.alone]
            world.expect(len(worker.units) <= (1 if suspects else SLOTS), f"{name} holds {list(worker.units)}")
            world.expect(all(unit in ledger._in_hand for unit in worker.units), f"{name} holds what is not in hand")
            world.expect((name in ledger._with_room) == worker.has_room(SLOTS), f"{name}: its room is not known")
        for unit, attempt in ledger._in_hand.items():
            holders = [name for name, worker in ledger._workers.items() if unit in worker.units]
            world.expect(sorted(holders) == sorted(attempt.holders), f"{unit} is in the hands of {holders}")
            world.expect(1 <= len(holders) <= (1 if attempt.alone else 2), f"{unit} is in the hands of {holders}")


def watched(process_of: Any) -> type[Ledger]:
    """The ledger's class, which tells the process that makes one of it and of every unit that it draws."""

    class WatchedLedger(Ledger):
        def __init__(self, units: Any, **options: Any) -> None:
            drawn: dict[str, str] = {}

            def watch_units() -> Any:
                for unit in units:
                    drawn[unit.name] = "open"
                    yield unit

            super().__init__(watch_units(), **options)
            process_of().watch(self, drawn)

    return WatchedLedger
