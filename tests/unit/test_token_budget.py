from __future__ import annotations

import pytest

from pipeline.token_budget import TokenBudget


def play(budget: TokenBudget, rates: dict[int, float], num_windows: int = 12) -> list[int]:
    """The budgets of windows of a million tokens, on a device that has these rates."""
    tried = []
    for _ in range(num_windows):
        tried.append(budget.tokens)
        budget.record(1_000_000, 1_000_000 / rates.get(budget.tokens, 1.0), token_budget=budget.tokens)
    return tried


def test_grows_while_it_pays_after_a_first_window_for_warming_up() -> None:
    tried = play(TokenBudget("cuda"), {16384: 100.0, 32768: 150.0, 65536: 151.0})
    assert tried == [16384, 16384, 32768, 65536, *[32768] * 8]


def test_ends_at_the_bound() -> None:
    rates = {16384 << i: 100.0 * 2**i for i in range(10)}
    assert max(play(TokenBudget("cuda"), rates)) == 262144
    assert play(TokenBudget("cuda", most=40000), rates) == [16384, 16384, *[32768] * 10]
    assert set(play(TokenBudget("cuda", most=5000), rates)) == {5000}


def test_windows_that_do_not_fill_a_pass_say_nothing() -> None:
    budget = TokenBudget("cuda")
    for _ in range(5):
        budget.record(16383, 1e-9, token_budget=16384)
    assert budget.tokens == 16384


def test_out_of_memory_lowers_it_for_good(caplog: pytest.LogCaptureFixture) -> None:
    budget = TokenBudget("cuda")
    budget.lower(512)
    assert budget.tokens == 8192
    assert "8192 tokens at a time" in caplog.text
    assert set(play(budget, {8192: 100.0, 16384: 1000.0})) == {8192}
    budget.lower(6000)
    assert budget.tokens == 6000


def test_on_a_cpu_it_is_what_was_measured_or_asked_for() -> None:
    assert set(play(TokenBudget("cpu"), {16384: 1.0, 32768: 9.0})) == {16384}
    assert TokenBudget("cpu", most=100_000).tokens == 100_000
    assert TokenBudget("cpu", most=100).tokens == 100


def test_windows_on_their_way_when_the_budget_changed_say_nothing() -> None:
    budget = TokenBudget("cuda")
    budget.record(1_000_000, 1.0, token_budget=16384)
    budget.record(1_000_000, 1.0, token_budget=16384)
    assert budget.tokens == 32768
    budget.record(1_000_000, 1.0, token_budget=16384)
    assert budget.tokens == 32768
