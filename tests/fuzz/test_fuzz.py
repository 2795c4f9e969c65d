"""Some hundred cases of `make fuzz`, and a few of the bombs that are quick."""

from __future__ import annotations

from itertools import count, islice

from tests.fuzz.bombs import BOMBS
from tests.fuzz.cases import KINDS, bomb_of, kind_of
from tests.fuzz.runner import run_cases

SLOW = ("line.", "nested.", "rows.", "nothing.", "nulls.", "quote.", "view.")
QUICK_BOMBS = sorted(name for name in BOMBS if not name.startswith(SLOW))


def test_damage_ends_in_rows_quarantine_or_an_error_of_ours() -> None:
    seeds = [seed for seed in range(8 * len(KINDS)) if kind_of(seed) != "bomb"]
    assert [outcome for outcome in run_cases(seeds) if outcome.is_finding] == []


def test_bombs_do_not_go_off() -> None:
    seeds = (seed for seed in count() if kind_of(seed) == "bomb" and bomb_of(seed) in QUICK_BOMBS)
    assert [outcome for outcome in run_cases(islice(seeds, 12)) if outcome.is_finding] == []
