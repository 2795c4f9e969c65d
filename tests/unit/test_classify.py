"""Logits become labels and scores; options that the model cannot serve are refused."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.classify import BoundClassify, BoundRegression, ClassifyTask
from models.batch import TokenBatch
from pipeline.errors import SpecError
from tests.support.stubs import StubModel, StubTokenizer, encoding_of, stub_config

LABELS = ("bad", "so-so", "good")


def bind(task: ClassifyTask, labels: tuple[str, ...] = LABELS, **fields: Any) -> BoundClassify | BoundRegression:
    return task.bind(stub_config(labels, **fields), StubTokenizer(), None)


def rows(bound: BoundClassify | BoundRegression, logits: Any, encoding: Any = None) -> list[dict[str, Any]]:
    values = np.array(logits, np.float32)
    encoding = encoding or encoding_of([3] * len(values), range(len(values)))
    decoded = bound.decode(["text"] * (encoding.text_index[-1] + 1), encoding, (values,))
    assert decoded.errors == {}
    table = pa.Table.from_arrays(list(decoded.columns), schema=pa.schema(bound.fields))
    table.validate(full=True)
    return list(table.to_pylist())


def test_one_label() -> None:
    bound = bind(ClassifyTask())
    assert [field.name for field in bound.fields] == ["label", "score"]
    good, bad = rows(bound, [[0, 0, np.log(2)], [1000, 0, -1000]])
    assert good == {"label": "good", "score": pytest.approx(0.5)}
    assert bad == {"label": "bad", "score": 1.0}


def test_top_k_is_sorted_and_ties_keep_the_labels_order() -> None:
    bound = bind(ClassifyTask(top_k=2, function_to_apply="none"))
    first, second = rows(bound, [[1, 1, 3], [2, 2, 2]])
    assert first == {"label": "good", "score": 3.0, "labels": ["good", "bad"], "scores": [3.0, 1.0]}
    assert second["labels"] == ["bad", "so-so"]


@pytest.mark.parametrize("top_k", ["all", 99])
def test_all_labels(top_k: Any) -> None:
    (row,) = rows(bind(ClassifyTask(top_k=top_k)), [[0, 1, 2]])
    assert row["labels"] == ["good", "so-so", "bad"]
    assert sum(row["scores"]) == pytest.approx(1)


class TestMultiLabel:
    LOGITS = ((3, -3, 1), (-1, -2, -3))

    def rows(self, **options: Any) -> list[dict[str, Any]]:
        return rows(bind(ClassifyTask(**options), problem_type="multi_label_classification"), self.LOGITS)

    def test_those_that_the_model_says_yes_to(self) -> None:
        first, none = self.rows()
        assert first["labels"] == ["bad", "good"]
        assert first["scores"] == pytest.approx([0.95257, 0.73106], abs=1e-5)
        assert none["labels"] == []
        assert none["label"] == "bad"

    def test_bare_logits_have_the_same_labels(self) -> None:
        assert [row["labels"] for row in self.rows(function_to_apply="none")] == [["bad", "good"], []]

    def test_threshold(self) -> None:
        assert [row["labels"] for row in self.rows(threshold=0.1)] == [["bad", "good"], ["bad", "so-so"]]
        assert [row["labels"] for row in self.rows(threshold=0.1, top_k=1)] == [["bad"], ["bad"]]
        assert [row["labels"] for row in self.rows(top_k=2)] == [["bad", "good"], ["bad", "so-so"]]


def test_regression() -> None:
    bound = bind(ClassifyTask(), labels=("LABEL_0",), problem_type="regression")
    assert rows(bound, [[2.5], [-1]]) == [{"score": 2.5}, {"score": -1.0}]
    several = bind(ClassifyTask(), labels=("joy", "fear"), problem_type="regression")
    assert rows(several, [[2.5, 1]]) == [{"score": {"joy": 2.5, "fear": 1.0}}]


def test_a_single_output_is_a_sigmoid() -> None:
    assert rows(bind(ClassifyTask(), labels=("yes",)), [[0]]) == [{"label": "yes", "score": 0.5}]


def test_windows_of_a_long_text_are_averaged_by_length() -> None:
    bound = bind(ClassifyTask(function_to_apply="none", top_k="all"))
    logits = [[1, 2, 3], [9, 0, 0], [0, 3, 0], [0.1, 0.2, 0.7]]
    short, long, last = rows(bound, logits, encoding_of([5, 6, 3, 2], [0, 1, 1, 2]))
    assert short["scores"] == [3, 2, 1]
    assert dict(zip(long["labels"], long["scores"], strict=True)) == {"bad": 6, "so-so": 1, "good": 0}
    # Not a bit changes in a text that happens to share its window of rows with a long one.
    assert last["scores"] == rows(bound, [[0.1, 0.2, 0.7]])[0]["scores"]


def test_forward_gives_float32() -> None:
    batch = TokenBatch.from_sequences([[1, 2], [3]])
    logits = torch.randn(2, 3, dtype=torch.bfloat16)
    (output,) = bind(ClassifyTask()).forward(StubModel(logits=logits), batch)
    assert output.dtype == torch.float32
    assert torch.equal(output, logits.float())


@pytest.mark.parametrize(
    ("options", "fields", "message"),
    [
        ({"top_k": 2}, {"problem_type": "regression"}, "task.top_k: this model is a regression"),
        ({"threshold": 0.2}, {"problem_type": "regression"}, "task.threshold: this model is a regression"),
        ({"threshold": 0.2}, {}, "task.threshold: this model gives one label a text"),
        ({"max_length": 65}, {}, "task.max_length: this model takes at most 64 tokens, found 65"),
        ({"max_length": 4}, {}, "task.max_length: expected at least 5"),
        ({}, {"id2label": {0: "a", 2: "c"}}, "found none for 1"),
        ({}, {"id2label": {}, "num_labels": 0}, "found none for 0"),
    ],
)
def test_refused(options: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        bind(ClassifyTask(**options), **fields)
    assert message in str(caught.value)


def test_labels_without_names_are_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bind(ClassifyTask(), labels=("LABEL_0", "LABEL_1"))
    assert caplog.messages == ["the model's labels have no names: the output says LABEL_0 to LABEL_1"]


def test_sequence_length_is_the_smallest_of_all_limits() -> None:
    assert bind(ClassifyTask()).encoding.max_length == 64
    assert ClassifyTask().bind(stub_config(), StubTokenizer(model_max_length=32), None).encoding.max_length == 32
    assert bind(ClassifyTask(max_length=16)).encoding.max_length == 16
    assert bind(ClassifyTask()).encoding.overflow
    assert not bind(ClassifyTask(long_text="truncate")).encoding.overflow


def test_travels_to_workers() -> None:
    bound = bind(ClassifyTask(top_k=2))
    assert pickle.loads(pickle.dumps(bound)) == bound
