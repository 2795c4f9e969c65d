"""Tokens become entities of the original text; tests/property and tests/parity hold the grouping to its rules."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from jobs.ner import BoundNer, NerTask
from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding
from pipeline.errors import SpecError
from tests.support.stubs import StubModel, StubTokenizer, stub_config


def bind(task: NerTask, tokenizer: StubTokenizer | None = None, **fields: Any) -> BoundNer:
    return task.bind(stub_config(**fields), tokenizer or StubTokenizer(), None)


def windows(text_words: list[int], max_length: int, stride: int) -> FlatEncoding:
    """Texts of so many one-letter words, cut into windows; a token's id is its place in its text."""
    ids: list[int] = []
    seqlens, text_index = [], []
    for text, num_words in enumerate(text_words):
        start = 0
        while True:
            window = range(start, min(start + max_length - 2, num_words))
            ids += [-1, *window, -1]
            seqlens.append(len(window) + 2)
            text_index.append(text)
            if window.stop == num_words:
                break
            start += max_length - 2 - stride
    places = np.array(ids)
    return FlatEncoding(
        input_ids=places.astype(np.int32),
        cu_seqlens=np.cumsum([0, *seqlens]),
        text_index=np.array(text_index, np.int32),
        offsets=np.where(places[:, None] < 0, 0, 2 * places[:, None] + [0, 1]).astype(np.int32),
        special=places < 0,
    )


@pytest.mark.parametrize("stride", [0, 1, 2, 3])
def test_without_aggregation_every_token_of_a_long_text_comes_once(stride: int) -> None:
    words = [3, 11, 6, 20, 1]
    encoding = windows(words, max_length=8, stride=stride)
    bound = bind(NerTask(aggregation="none", max_length=8, stride=stride))
    window = np.repeat(np.arange(encoding.num_sequences), encoding.seqlens)
    outputs = (np.ones(encoding.num_tokens, np.int32), window.astype(np.float32))
    decoded = bound.decode(["x " * n for n in words], encoding, outputs)
    rows = decoded.columns[0].to_pylist()
    assert [[entity["start"] for entity in row] for row in rows] == [list(range(0, 2 * n, 2)) for n in words]
    # Each is taken from the window where it is further from the edge.
    for entity in rows[1]:
        place = entity["start"] // 2
        seen_in = [w for w in np.flatnonzero(encoding.text_index == 1) if place in tokens_of(encoding, w)]
        margins = {w: margin(tokens_of(encoding, w), place, words[1]) for w in seen_in}
        assert margins[int(entity["score"])] == max(margins.values())


def tokens_of(encoding: FlatEncoding, window: int) -> list[int]:
    ids = encoding.input_ids[encoding.cu_seqlens[window] : encoding.cu_seqlens[window + 1]]
    return [int(token) for token in ids if token >= 0]


def margin(tokens: list[int], place: int, num_words: int) -> int:
    """Tokens between a place and the nearer edge of its window that is not an edge of the text."""
    before = num_words if tokens[0] == 0 else place - tokens[0]
    after = num_words if tokens[-1] == num_words - 1 else tokens[-1] - place
    return min(before, after)


def test_ignored_labels_are_those_of_the_output() -> None:
    encoding = windows([3], max_length=8, stride=0)
    outputs = (np.array([0, 1, 2, 0, 0], np.int32), np.ones(5, np.float32))
    for task, expected in [
        (NerTask(), ["PER"]),
        (NerTask(ignore_labels=()), ["PER", "O"]),
        (NerTask(ignore_labels=("PER",)), ["O"]),
        (NerTask(aggregation="none"), ["B-PER", "I-PER"]),
        (NerTask(aggregation="none", ignore_labels=("B-PER",)), ["I-PER", "O"]),
    ]:
        (row,) = bind(task).decode(["a b c"], encoding, outputs).columns[0].to_pylist()
        assert [entity["label"] for entity in row] == expected


def test_nothing_found() -> None:
    encoding = windows([2, 2], max_length=8, stride=0)
    outputs = (np.zeros(encoding.num_tokens, np.int32), np.ones(encoding.num_tokens, np.float32))
    bound = bind(NerTask())
    decoded = bound.decode(["a b", "c d"], encoding, outputs)
    assert decoded.columns[0].to_pylist() == [[], []]
    assert decoded.columns[0].type == bound.fields[0].type


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_only_special_tokens(aggregation: Any) -> None:
    encoding = windows([0], max_length=8, stride=0)
    outputs: tuple[Any, ...] = (np.ones(2, np.int32), np.ones(2, np.float32))
    if aggregation == "average":
        outputs = (np.ones((2, 3), np.float32),)
    assert bind(NerTask(aggregation=aggregation)).decode(["?"], encoding, outputs).columns[0].to_pylist() == [[]]


class TestForward:
    BATCH = TokenBatch.from_sequences([[1, 2], [3]])
    LOGITS = torch.tensor([[0, 0, 5], [1, 0, 0], [0, 9, 0]], dtype=torch.bfloat16)

    @pytest.mark.parametrize("aggregation", ["none", "simple", "first", "max"])
    def test_one_label_a_token(self, aggregation: Any) -> None:
        label, score = bind(NerTask(aggregation=aggregation)).forward(StubModel(logits=self.LOGITS), self.BATCH)
        assert label.dtype == torch.int32
        assert label.tolist() == [2, 0, 1]
        assert torch.equal(score, self.LOGITS.float().softmax(1).amax(1))

    def test_all_scores_to_average(self) -> None:
        (scores,) = bind(NerTask(aggregation="average")).forward(StubModel(logits=self.LOGITS), self.BATCH)
        assert torch.equal(scores, self.LOGITS.float().softmax(1))


class TestBind:
    def test_windows_share_a_quarter(self) -> None:
        encoding = bind(NerTask()).encoding
        assert (encoding.max_length, encoding.stride, encoding.overflow, encoding.offsets) == (64, 16, True, True)
        assert bind(NerTask(max_length=3)).encoding.stride == 0
        assert bind(NerTask(stride=5)).encoding.stride == 5

    def test_stride_must_leave_room(self) -> None:
        with pytest.raises(SpecError, match=r"task\.stride: expected less than 62 .*, found 62"):
            bind(NerTask(stride=62))
        with pytest.raises(SpecError, match=r"task\.max_length: expected at least 3"):
            bind(NerTask(max_length=2))

    def test_subword_rule_by_tokenizer(self) -> None:
        assert bind(NerTask()).token_lengths is None
        assert bind(NerTask(), StubTokenizer(continuing_subword_prefix="##")).token_lengths is not None

    def test_travels_to_workers(self) -> None:
        bound = bind(NerTask(aggregation="first"))
        assert pickle.loads(pickle.dumps(bound)).labels == bound.labels
