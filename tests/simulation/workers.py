"""Simulated workers and their pool: they die, hang, leave, are slow, go on when given up, and talk late or twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import CommitConflict, FileChanged, FileUnreadable, HandedBack, ShardmillError
from pipeline.units import Unit, UnitReport
from pipeline.workers import Counted, Done, Failed, Leaving, Lost, Message, Progressed, Ready, describe
from tests.simulation.store import Caller, SimStorage

if TYPE_CHECKING:
    from tests.simulation.drivers import DriverProcess
    from tests.simulation.world import World

SLOTS = 2


class SimWorker(Caller):
    def __init__(self, world: World, pool: SimPool, name: str) -> None:
        super().__init__(name)
        self._world, self._pool = world, pool
        self._storage = SimStorage(world, self)
        self.queue: list[tuple[Unit, bool]] = []
        self._turn = 0  # what was planned for an earlier one is void
        self._busy = False
        self._steps = 0
        self._speaks = True  # otherwise it is a zombie: it goes on, and is not heard
        self._speaks_at = 0.0  # what it says arrives in order

    def load(self) -> None:
        world = self._world
        self.say(Progressed(worker=self.name, num_steps=0))
        if world.chance("never_ready"):
            return
        if world.chance("dies_loading"):
            world.after(world.random.uniform(1, 10), lambda: self.die("it died while loading"))
            return
        world.after(world.random.uniform(1, 10), lambda: self.say(Ready(worker=self.name)))

    def say(self, message: Message) -> None:
        world = self._world
        if self.dead or not self._speaks:
            return
        if isinstance(message, (Done, Failed)) and world.chance("reply_lost"):
            world.note(f"{self.name}: {type(message).__name__} is lost")
            world.harm(message.report.name if isinstance(message, Done) else message.unit)
            return
        self._speaks_at = max(self._speaks_at, world.now + world.random.uniform(0.01, 1.0))
        world.after(self._speaks_at - world.now, lambda: self._pool.hear(message))
        if world.chance("said_twice"):
            world.after(self._speaks_at - world.now + world.random.uniform(0, 60), lambda: self._pool.hear(message))

    def give(self, unit: Unit, alone: bool) -> None:
        self.queue.append((unit, alone))
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._turn += 1
        self._busy = bool(self.queue) and not self.dead
        if not self._busy:
            return
        world, turn = self._world, self._turn
        unit, alone = self.queue[0]
        seconds = world.random.uniform(1, 10) * (20 if world.chance("slow") else 1)
        if world.chance("hangs"):
            world.note(f"{self.name} hangs in {unit.name}")
            world.harm(unit)
            return
        for share in (0.2, 0.4, 0.6, 0.8):
            world.after(seconds * share, lambda: self._step(turn))
        if alone:
            world.after(seconds * 0.1, lambda: self._count(turn))
        world.after(seconds, lambda: self._finish(turn))

    def _step(self, turn: int) -> None:
        if turn == self._turn:
            self._steps += 1
            self.say(Progressed(worker=self.name, num_steps=self._steps))

    def _count(self, turn: int) -> None:
        if turn != self._turn or self.dead:
            return
        unit, _ = self.queue[0]
        error = self._reading_error(unit)
        if error is not None:
            self._fail(unit, error)
        elif self._world.kills_readers(unit):
            self.die("reading killed it")
        elif self._world.chance("crash"):
            self._world.harm(unit)
            self.die("it crashed while counting")
        else:
            self.say(Counted(worker=self.name, unit=unit.name, num_rows=len(self._world.rows(unit))))

    def _reading_error(self, unit: Unit) -> ShardmillError | None:
        world = self._world
        for piece in unit.pieces:
            if world.inputs[piece.file.url].fingerprint != piece.file.fingerprint:
                return FileChanged(f"{piece.file.url} has changed")
            if piece.file.url in world.bad_files:
                return FileUnreadable(f"{piece.file.url} is damaged")
        return None

    def _finish(self, turn: int) -> None:
        if turn != self._turn or self.dead:
            return
        world = self._world
        unit, _ = self.queue[0]
        error: BaseException | None = self._reading_error(unit)
        if error is not None:
            self._fail(unit, error)
        elif world.kills_readers(unit) or world.has_poison(unit):
            self.die("the unit killed it")
        elif world.chance("crash"):
            for other, _ in self.queue:
                world.harm(other)
            self.die("it crashed before the commit")
        elif world.chance("odd_error"):
            world.harm(unit)
            self._fail(unit, RuntimeError("simulated"))
        else:
            self._commit(unit)

    def _commit(self, unit: Unit) -> None:
        world = self._world
        try:
            self._storage.write_bytes(unit.output_name, world.content(unit, self.name), exclusive=True)
        except CommitConflict:
            world.note(f"{self.name}: {unit.name} was there")
        except ShardmillError as error:
            world.harm(unit)
            self._fail(unit, error)
            return
        if world.chance("crash"):
            for other, _ in self.queue:
                world.harm(other)
            self.die("it crashed after the commit")
            return
        counts = dict.fromkeys(("num_empty", "num_errors", "num_long", "num_tokens", "output_bytes"), 0)
        report = UnitReport(name=unit.name, num_rows=len(world.rows(unit)), **counts)
        self.queue.pop(0)
        self.say(Done(worker=self.name, report=report))
        self._begin()

    def _fail(self, unit: Unit, error: BaseException) -> None:
        self.queue.pop(0)
        self.say(Failed(worker=self.name, unit=unit.name, failure=describe(error)))
        self._begin()

    def hand_back(self) -> None:
        back, self.queue = self.queue[1:], self.queue[:1]
        for unit, _ in back:
            self.say(Failed(worker=self.name, unit=unit.name, failure=describe(HandedBack("given back"))))

    def leave(self) -> None:
        self._world.note(f"{self.name} is told to leave")
        self.say(Leaving(worker=self.name))
        self.hand_back()
        self._world.after(25, lambda: self.die("its machine was taken away"))

    def drop(self, name: str) -> None:
        if self.queue and self.queue[0][0].name == name and self._world.random.random() < 0.5:
            return  # it is just being committed
        working = bool(self.queue) and self.queue[0][0].name == name
        self.queue = [(unit, alone) for unit, alone in self.queue if unit.name != name]
        if working:
            self._begin()

    def die(self, reason: str) -> None:
        if not self.dead:
            self._world.note(f"{self.name}: {reason}")
            self.say(Lost(worker=self.name, reason=reason))
            self.dead = True
            self._turn += 1

    def vanish(self) -> None:
        """Cut off from the driver, which believes it dead; it goes on with what it has."""
        self._world.note(f"{self.name} is cut off, and goes on")
        for unit, _ in self.queue:
            self._world.harm(unit)
        self.say(Lost(worker=self.name, reason="it is not heard of"))
        self._speaks = False

    def kill(self) -> None:
        """From outside; now and then that does not reach it, and it goes on with what it has."""
        if self._world.chance("zombie"):
            self._world.note(f"{self.name} goes on as a zombie")
            self._speaks = False
        else:
            self.dead = True
            self._turn += 1


class SimPool:
    """What a driver sees of its workers; checks that it does with them only what is allowed."""

    def __init__(self, world: World, process: DriverProcess) -> None:
        self._world, self._process = world, process
        self.workers: dict[str, SimWorker] = {}
        self._inbox: list[Message] = []
        self._told_lost: set[str] = set()
        self._lost_at_last_poll: set[str] = set()
        self.held: dict[str, dict[str, bool]] = {}  # what the driver has given and not heard the end of

    def start(self, num_workers: int) -> None:
        for _ in range(num_workers):
            name = f"{self._process.name}.w{len(self.workers)}"
            worker = self.workers[name] = SimWorker(self._world, self, name)
            self.held[name] = {}
            self._world.all_workers.append(worker)
            worker.load()

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        world, held = self._world, self.held[worker]
        world.note(f"{self._process.name}: {unit.name} to {worker}{' alone' if alone else ''}")
        world.expect(worker not in self._told_lost, f"{unit.name} was given to {worker}, which is gone")
        world.expect(unit.name not in held, f"{unit.name} was given to {worker} twice")
        world.expect(len(held) < SLOTS, f"{worker} was given more than it takes")
        world.expect(not any(held.values()) and not (alone and held), f"{worker} has a suspect and something else")
        self._process.expect_lease()
        held[unit.name] = alone
        self.workers[worker].give(unit, alone)

    def drop(self, worker: str, unit: str) -> None:
        self.held[worker].pop(unit, None)
        self.workers[worker].drop(unit)

    def end(self, worker: str) -> None:
        self._told_lost.add(worker)
        self.workers[worker].kill()

    def hear(self, message: Message) -> None:
        self._inbox.append(message)
        self._process.wake()

    def poll(self, timeout_s: float) -> list[Message]:
        heard, self._inbox = self._inbox, []
        self._told_lost |= self._lost_at_last_poll  # all that came with it has been taken in by now
        self._lost_at_last_poll = set()
        for message in heard:
            match message:
                case Lost(worker=worker):
                    self._lost_at_last_poll.add(worker)
                case Done(worker=worker, report=report):
                    self.held[worker].pop(report.name, None)
                case Failed(worker=worker, unit=unit):
                    self.held[worker].pop(unit, None)
        return heard

    def hand_back(self) -> None:
        for worker in self.workers.values():
            worker.hand_back()

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.kill()
