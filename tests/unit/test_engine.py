"""The engine puts results where they belong: whatever the batches, the empty rows and the rows that fail."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest
import torch
from torch import nn

from pipeline.engine import EMPTY_TEXT, NOT_FINITE, NULL_TEXT, Engine
from tests.support.number_engine import NumberTokenizer, SumTask


def engine(task: SumTask, token_budget: int = 6) -> Engine:
    return Engine(nn.Linear(1, 1), NumberTokenizer(), task, token_budget=token_budget)


TEXTS = ["1 2", None, "3 4 5 6 8 9", " \n", "10", "", "7 1", "1 13", "20 20 20 20"]
SUMS = [3.0, None, 35.0, None, 10.0, None, None, None, 80.0]
ERRORS = [None, NULL_TEXT, None, EMPTY_TEXT, None, EMPTY_TEXT, "seven", NOT_FINITE, None]


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("token_budget", [1, 4, 6, 1000])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_every_row_gets_its_own_result(per_token: bool, token_budget: int, kind: pa.DataType) -> None:
    results = engine(SumTask(per_token=per_token), token_budget).annotate(pa.array(TEXTS, kind))
    assert results.column("sum").to_pylist() == SUMS
    assert results.column("error").to_pylist() == ERRORS


def test_counts() -> None:
    under_test = engine(SumTask())
    window = under_test.encode(pa.array(TEXTS))
    results = under_test.decode(window, under_test.forward(window))
    assert (results.num_empty, results.num_errors, results.num_long) == (3, 2, 1)
    assert results.num_tokens == 2 + 6 + 1 + 2 + 2 + 4


def test_rows_that_are_known_to_be_bad_stay_out() -> None:
    under_test = engine(SumTask())
    window = under_test.encode(pa.array([None, "1 2", None]), errors={0: "the line is not JSON"})
    results = under_test.decode(window, under_test.forward(window))
    assert results.columns.column("error").to_pylist() == ["the line is not JSON", None, NULL_TEXT]
    assert (results.num_empty, results.num_errors) == (1, 1)


@pytest.mark.parametrize("texts", [[], [None], ["", None]])
def test_nothing_to_run(texts: list[str | None]) -> None:
    task = SumTask()
    results = engine(task).annotate(pa.array(texts, pa.string()))
    assert results.column("sum").to_pylist() == [None] * len(texts)
    assert task.batches == []


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_lowers_the_budget_for_good(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    task = SumTask(most_tokens=5, too_many=error)
    under_test = engine(task, token_budget=16)
    texts = pa.array(["1 2 3 4", "5 5", "1", "2 2 2"])
    with caplog.at_level(logging.WARNING):
        assert under_test.annotate(texts).column("sum").to_pylist() == [10, 10, 1, 6]
    assert under_test.budget.tokens == 4
    assert "ran out of memory: from now on 4 tokens" in caplog.text
    task.batches.clear()
    under_test.annotate(texts)
    assert max(task.batches) == 4


def test_a_text_that_alone_is_too_much_ends_it() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        engine(SumTask(most_tokens=3)).annotate(pa.array(["1 2 3 4", "1"]))


def test_a_model_is_compiled_once_when_a_gpu_has_worked_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    monkeypatch.setattr("pipeline.engine.compile_blocks", lambda model, batch: compiled.append(batch.num_tokens))
    under_test = engine(SumTask())
    window = under_test.encode(pa.array(["1 2 3", "4"]))
    under_test.forward(window)
    under_test._compile_after_s = 1e-9  # as on a GPU that has nearly worked long enough
    for expected in ([], [4], [4]):
        under_test.forward(window)
        assert compiled == expected
