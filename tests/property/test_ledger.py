"""The ledger under random failures: every unit ends once, committed or given up, and nobody holds too many."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Abort, Assign, Decision, Failure, Ledger, Quarantine, Split, parent
from pipeline.units import InputFile, Piece, Unit

SLOTS = 2


def unit(index: int, num_files: int) -> Unit:
    pieces = tuple(
        Piece(file=InputFile(url=f"/in/{index}-{i}", format="text", size_bytes=1, fingerprint="1"), num_rows=1)
        for i in range(num_files)
    )
    return Unit(name=f"00000-{index:06d}-abcd", pieces=pieces, size_bytes=num_files)


class World:
    """Workers that do, refuse, or die as a seeded generator says; its books and the ledger must agree."""

    def __init__(self, ledger: Ledger, random: Random) -> None:
        self.ledger, self.random = ledger, random
        self.now = 0.0
        self.in_hand: dict[str, dict[str, tuple[Unit, int]]] = {}
        self.committed: list[str] = []
        self.given_up: list[str] = []
        self.splits: list[str] = []
        self.born = 0

    def obey(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Assign(unit=unit, worker=worker, attempt=attempt):
                    assert unit.name not in {name for held in self.in_hand.values() for name in held}
                    assert unit.name not in self.committed + self.given_up
                    self.in_hand[worker][unit.name] = (unit, attempt)
                    assert len(self.in_hand[worker]) <= SLOTS
                case Quarantine(unit=unit, attempts=attempts):
                    assert attempts <= 3
                    self.given_up.append(unit.name)
                case Split(unit=unit, parts=parts):
                    assert [part.pieces for part in parts] == [(piece,) for piece in unit.pieces]
                    self.splits.append(unit.name)
                case Abort():
                    raise AssertionError("no failure here reaches the run")

    def step(self) -> None:
        self.now += self.random.random() * 2
        holders = [worker for worker, held in self.in_hand.items() if held]
        choice = self.random.random()
        if not self.in_hand or (choice < 0.1 and len(self.in_hand) < 4):
            self.born += 1
            worker = f"w{self.born}"
            self.in_hand[worker] = {}
            self.obey(self.ledger.worker_ready(worker, self.now))
        elif choice < 0.2:
            worker = self.random.choice(sorted(self.in_hand))
            del self.in_hand[worker]
            self.obey(self.ledger.worker_lost(worker, "gone", self.now))
        elif holders:
            worker = self.random.choice(holders)
            name = self.random.choice(sorted(self.in_hand[worker]))
            del self.in_hand[worker][name]
            outcome = self.random.random()
            if outcome < 0.7:
                self.committed.append(name)
                self.obey(self.ledger.unit_done(worker, name, self.now))
            else:
                reach = "file" if outcome < 0.85 else "unit"
                failure = Failure(kind="X", message="x", retry=outcome > 0.8, reach=reach)
                self.obey(self.ledger.unit_failed(worker, name, failure, self.now))
        else:
            self.obey(self.ledger.tick(self.now))
        assert self.ledger.num_in_flight == sum(len(held) for held in self.in_hand.values())


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 3), max_size=12))
def test_every_unit_ends_once(seed: int, sizes: list[int]) -> None:
    units = [unit(index, size) for index, size in enumerate(sizes)]
    world = World(Ledger(units, max_attempts=3, slots=SLOTS), Random(seed))

    for _ in range(3000):
        if world.ledger.done:
            break
        world.step()

    assert world.ledger.done
    ended = world.committed + world.given_up
    assert len(set(ended)) == len(ended)
    whole = {name for name in ended if parent(name) == name}
    assert whole | set(world.splits) == {unit.name for unit in units}
    assert not whole & set(world.splits)
    pieces_of_splits = {
        f"{unit.name}.{i:04d}" for unit in units if unit.name in world.splits for i in range(len(unit.pieces))
    }
    assert pieces_of_splits == set(ended) - whole
