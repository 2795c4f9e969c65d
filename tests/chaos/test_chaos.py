"""A few rounds of chaos; `make chaos ROUNDS=50` plays more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.arena import NUM_ROWS, Arena
from tests.chaos.rounds import play

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest.mark.parametrize("seed", [7, 15])
def test_whatever_is_killed_the_output_is_that_of_an_undisturbed_run(arena: Arena, seed: int) -> None:
    played = play(arena, seed, kinds=("classify",))
    assert played.passed, f"{played}\n{arena.log.read_text()[-3000:]}"
    assert played.num_rows == NUM_ROWS
    assert played.exit_codes[-1] == 0
