"""Some hundred seeds hold; and a rule that is broken on purpose is found by them, so that they prove something."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pipeline import resume
from pipeline.cutting import cover
from pipeline.decisions import Decision, Drop, Split
from pipeline.driver import Driver
from pipeline.lease import LeaseRule
from pipeline.ledger import Ledger
from tests.simulation.world import Violation, World, simulate

SEEDS = 150
MOST_SEEDS = 400  # in which a broken rule is found


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def violation_in(seed: int) -> Violation | None:
    try:
        simulate(seed)
    except Violation as violation:
        return violation
    return None


def found(seeds: Iterable[int] = range(MOST_SEEDS)) -> str:
    """What the first seed says in which something does not hold; it is played twice, and says the same."""
    for seed in seeds:
        violation = violation_in(seed)
        if violation is not None:
            again = violation_in(seed)
            assert again is not None
            assert (str(again), again.trace) == (str(violation), violation.trace)
            return str(violation)
    return ""


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_every_seed_holds(first: int) -> None:
    for seed in range(first, first + 50):
        simulate(seed)


def test_weather_reaches_all_there_is() -> None:
    """Each of these happens in some seed: what never happens proves nothing."""
    told = "\n".join(line for seed in range(40) for line in simulate(seed).trace)
    for what in (
        "alone", "is cut into", "goes to quarantine", "goes on as a zombie", "is cut off", "is told to leave",
        "hangs in", "the reply is lost", "is paused", "dies before", "is asked to stop", "a clock jumps",
        "storage is out", "has failed: OutputConflict", "was there", "removes part-",
    ):  # fmt: skip
        assert what in told, what


def test_a_commit_that_is_neither_exclusive_nor_deterministic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_its_maker(self: World, unit: Any, worker: str) -> bytes:
        return json.dumps(self.rows(unit), indent=zlib.crc32(worker.encode()) % 100).encode()

    monkeypatch.setattr(World, "content", with_its_maker)
    monkeypatch.setattr(World, "is_exclusive", property(lambda self: False, lambda self, value: None), raising=False)
    assert "is not what it was" in found()


def test_a_driver_that_forgets_its_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseRule, "check", lambda self: None)
    assert "goes on, and" in found()


def test_a_lost_workers_unit_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lose = Ledger._lose

    def forgetful(self: Ledger, name: str, reason: str, now: float) -> list[Decision]:
        decisions = lose(self, name, reason, now)
        self._later.clear()
        return decisions

    monkeypatch.setattr(Ledger, "_lose", forgetful)
    assert "but open are" in found()


def test_a_straggler_that_counts_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_and_second(self: Ledger, worker: str, unit: str, now: float) -> list[Decision]:
        if not self.holds(worker, unit):
            return self.tick(now)
        self._durations.append(now - self._in_hand[unit].holders[worker])
        self._release(worker, unit)
        return self.tick(now)

    monkeypatch.setattr(Ledger, "unit_done", first_and_second)
    assert found()


def test_a_whole_that_is_committed_after_its_halves_and_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driver, "_tidy", lambda self, progress: None)
    assert "twice" in found()


def test_a_resume_that_forgets_what_is_left_beside_parts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_gaps(planned: Any, names: Any) -> Iterator[Any]:
        return (unit for unit in cover(planned, names) if not names or unit.name in names)

    monkeypatch.setattr(resume, "cover", without_gaps)
    assert found()


def test_a_half_that_is_not_handed_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Ledger._cut

    def first_part_only(self: Ledger, unit: Any, parts: Any, *args: Any, **options: Any) -> list[Decision]:
        (decision,) = cut(self, unit, parts[:1], *args, **options)
        assert isinstance(decision, Split)
        return [Split(unit=unit, parts=parts, reason=decision.reason)]

    monkeypatch.setattr(Ledger, "_cut", first_part_only)
    assert "but open are" in found()


def test_a_loser_that_is_not_told_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit rule alone keeps the output right: to drop the copy only spares work."""
    tick = Ledger.unit_done
    monkeypatch.setattr(
        Ledger,
        "unit_done",
        lambda self, *args: [decision for decision in tick(self, *args) if not isinstance(decision, Drop)],
    )
    assert not found(range(30))
