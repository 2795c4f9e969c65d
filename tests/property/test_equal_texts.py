"""Equal texts of a window are computed once, and nobody can tell from the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.tokenization.flat import FlatEncoding
from pipeline.engine import Engine
from tests.support.number_engine import NumberTokenizer, SumTask

few_texts = st.sampled_from(["1 2", "3 4 5 6 8 9", "10", "7 1", "1 13", "", None, "2 1"])


class PairTokenizer(NumberTokenizer):
    """A pair is the numbers of both texts."""

    def encode_flat(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **options: Any) -> FlatEncoding:
        joined = texts if pairs is None else [f"{text} {pair}" for text, pair in zip(texts, pairs, strict=True)]
        return super().encode_flat(joined, **options)


def engine(*, per_token: bool = False) -> Engine:
    return Engine(nn.Linear(1, 1), PairTokenizer(), SumTask(per_token=per_token), token_budget=5)


@given(st.lists(few_texts, max_size=12), st.booleans())
def test_results_are_those_of_each_row_alone(texts: list[str | None], per_token: bool) -> None:
    found = engine(per_token=per_token).annotate(pa.array(texts, pa.string()))
    alone = [engine(per_token=per_token).annotate(pa.array([text], pa.string())) for text in texts]
    assert found.to_pylist() == [row for one in alone for row in one.to_pylist()]


@given(st.lists(st.tuples(few_texts, few_texts), max_size=12))
def test_of_pairs_both_count(pairs: list[tuple[str | None, str | None]]) -> None:
    def results(rows: list[tuple[str | None, str | None]]) -> list[Any]:
        texts, seconds = (pa.array([row[i] for row in rows], pa.string()) for i in (0, 1))
        return list(engine().annotate(texts, seconds).to_pylist())

    assert results(pairs) == [row for pair in pairs for row in results([pair])]


@given(st.lists(few_texts, max_size=12), st.sets(st.integers(0, 11)), st.booleans())
def test_outputs_can_be_picked_for_the_rows_that_are_left(
    texts: list[str | None], left_out: set[int], per_token: bool
) -> None:
    under_test, column = engine(per_token=per_token), pa.array(texts, pa.string())
    whole = under_test.encode(column)
    rest = under_test.encode(column, errors={row: "left out" for row in left_out if row < len(texts)})
    picked = under_test.pick(whole, under_test.forward(whole), rest)
    assert under_test.decode(rest, picked).columns == under_test.decode(rest, under_test.forward(rest)).columns


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_computed_once(kind: pa.DataType) -> None:
    under_test = engine()
    window = under_test.encode(pa.array(["1 2", "10", "1 2", None, "1 2"], kind))
    results = under_test.decode(window, under_test.forward(window))
    assert results.num_tokens == 3
    assert results.columns.column("sum").to_pylist() == [3.0, 10.0, 3.0, None, 3.0]
