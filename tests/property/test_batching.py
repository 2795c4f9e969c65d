"""Batches keep every sequence once, inside the budget, and whole."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching import plan_batches

lengths = st.lists(st.integers(1, 40), max_size=60)


@given(lengths=lengths, budget=st.integers(1, 100), by_length=st.booleans())
def test_every_token_is_in_one_batch_and_sequences_stay_whole(lengths: list[int], budget: int, by_length: bool) -> None:
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    plan = plan_batches(boundaries, budget, by_length=by_length)

    seen: list[int] = []
    for sequences, tokens in plan.batches():
        size = tokens.stop - tokens.start
        assert size <= budget or sequences.stop - sequences.start == 1
        expected = [token for i in plan.order[sequences] for token in range(boundaries[i], boundaries[i + 1])]
        assert plan.token_order[tokens].tolist() == expected
        seen += expected
    assert sorted(seen) == list(range(sum(lengths)))


@given(lengths=lengths)
def test_sequences_may_stay_in_their_order(lengths: list[int]) -> None:
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    assert plan_batches(boundaries, 50, by_length=False).seqlens.tolist() == lengths


@given(lengths=lengths, budget=st.integers(1, 100))
def test_batches_are_sorted_by_length_and_filled_greedily(lengths: list[int], budget: int) -> None:
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    plan = plan_batches(boundaries, budget)

    assert plan.seqlens.tolist() == sorted(lengths, reverse=True)
    batches = list(plan.batches())
    for (sequences, tokens), (following, _) in pairwise(batches):
        filled = tokens.stop - tokens.start
        assert filled + plan.seqlens[following.start] > budget or sequences.stop - sequences.start == 1
