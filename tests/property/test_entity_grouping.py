"""The grouping on flat arrays equals a plain one that goes through the tokens one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.ner import BoundNer
from jobs.spans import Aggregation
from models.tokenization.flat import FlatEncoding
from pipeline.task import EncodingPlan

LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "PER", "X-PER", "I-A-B")
UNKNOWN, PIECE, WORD = 1, 2, 3  # token ids: PIECE is longer than the text it stands for, WORD is not
TOKEN_LENGTHS = np.array([3, 3, 5, 1], dtype=np.int32)

Token = dict[str, Any]


def tag_of(label: str) -> tuple[bool, str]:
    return (label[0] == "B", label[2:]) if label[:2] in ("B-", "I-") else (False, label)


def is_subword(token: Token, text: str, marked: bool) -> bool:
    if token["id"] == UNKNOWN:
        return False
    if marked:
        return bool(TOKEN_LENGTHS[token["id"]] != token["end"] - token["start"])
    return token["start"] > 0 and " " not in text[token["start"] - 1 : token["start"] + 1]


def best(scores: np.ndarray) -> tuple[str, float]:
    return LABELS[int(scores.argmax())], float(scores.max())


def word_of(tokens: list[Token], aggregation: str) -> Token:
    if aggregation == "first":
        label, score = best(tokens[0]["scores"])
    elif aggregation == "max":
        label, score = best(max(tokens, key=lambda token: token["scores"].max())["scores"])
    else:
        label, score = best(np.mean([token["scores"] for token in tokens], axis=0))
    return {"label": label, "score": score, "start": tokens[0]["start"], "end": tokens[-1]["end"]}


def group(parts: list[Token]) -> list[Token]:
    groups: list[list[Token]] = []
    for part in parts:
        begins, tag = tag_of(part["label"])
        if groups and not begins and tag == tag_of(groups[-1][-1]["label"])[1]:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [
        {
            "label": parts[0]["label"].split("-", 1)[-1],
            "score": float(np.mean([part["score"] for part in parts])),
            "start": parts[0]["start"],
            "end": parts[-1]["end"],
        }
        for parts in groups
    ]


def in_window(tokens: list[Token], text: str, aggregation: str, marked: bool) -> list[Token]:
    if aggregation in ("none", "simple"):
        parts = [token | dict(zip(("label", "score"), best(token["scores"]), strict=True)) for token in tokens]
    else:
        grouped: list[list[Token]] = []
        for token in tokens:
            if grouped and is_subword(token, text, marked):
                grouped[-1].append(token)
            else:
                grouped.append([token])
        parts = [word_of(word, aggregation) for word in grouped]
    if aggregation != "none":
        parts = group(parts)
    return [part for part in parts if part["label"] not in ("O", "ORG")]


def expected(windows: list[list[Token]], text: str, aggregation: str, marked: bool) -> list[Token]:
    found = [entity for tokens in windows for entity in in_window(tokens, text, aggregation, marked)]
    if len(windows) == 1 or aggregation == "none":
        return found
    kept: list[Token] = []
    for entity in sorted(found, key=lambda one: one["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
            continue
        length, other = entity["end"] - entity["start"], kept[-1]["end"] - kept[-1]["start"]
        if length > other or (length == other and np.float32(entity["score"]) > np.float32(kept[-1]["score"])):
            kept[-1] = entity
    return kept


@st.composite
def tokens_of(draw: st.DrawFn, text: str) -> list[Token]:
    """Tokens with offsets that never go back; some special, some empty, some overlapping."""
    tokens = []
    start = draw(st.integers(0, max(0, len(text) - 4)))
    for _ in range(draw(st.integers(0, 8))):
        start = min(len(text), start + draw(st.integers(0, 2)))
        # Eighths: means and comparisons of them are exact, so that ties are ties in both.
        scores = np.array(draw(st.lists(st.integers(0, 8), min_size=len(LABELS), max_size=len(LABELS)))) / 8
        end = min(len(text), start + draw(st.integers(0, 3)))
        tokens.append(
            {
                "id": draw(st.sampled_from([UNKNOWN, PIECE, WORD])),
                "special": draw(st.integers(0, 4)) == 0,
                "start": start,
                "end": end,
                "scores": scores.astype(np.float32),
            }
        )
    return tokens


@st.composite
def corpora(draw: st.DrawFn, max_windows: int) -> list[tuple[str, list[list[Token]]]]:
    corpus = []
    for text in draw(st.lists(st.text("ab \n\u00e9\U0001f600", min_size=1, max_size=12), min_size=1, max_size=4)):
        windows = [draw(tokens_of(text)) for _ in range(draw(st.integers(1, max_windows)))]
        corpus.append((text, [window or [special_token()] for window in windows]))
    return corpus


def special_token() -> Token:
    return {"id": 0, "special": True, "start": 0, "end": 0, "scores": np.ones(len(LABELS), np.float32)}


def encode(corpus: list[tuple[str, list[list[Token]]]]) -> tuple[FlatEncoding, np.ndarray]:
    windows = [window for _, windows in corpus for window in windows]
    tokens = [token for window in windows for token in window]
    encoding = FlatEncoding(
        input_ids=np.array([token["id"] for token in tokens], np.int32),
        cu_seqlens=np.cumsum([0, *map(len, windows)]),
        text_index=np.repeat(np.arange(len(corpus)), [len(windows) for _, windows in corpus]).astype(np.int32),
        offsets=np.array([(token["start"], token["end"]) for token in tokens], np.int32),
        special=np.array([token["special"] for token in tokens]),
    )
    return encoding, np.array([token["scores"] for token in tokens])


def decode(corpus: list[tuple[str, list[list[Token]]]], aggregation: Aggregation, marked: bool) -> list[list[Token]]:
    encoding, scores = encode(corpus)
    task = BoundNer(
        encoding=EncodingPlan(max_length=10, stride=2, offsets=True),
        aggregation=aggregation,
        labels=LABELS,
        ignored=frozenset({"O", "ORG"}),
        num_special=2,
        token_lengths=TOKEN_LENGTHS if marked else None,
        unk_token_id=UNKNOWN,
    )
    outputs = (scores,) if aggregation == "average" else (scores.argmax(1).astype(np.int32), scores.max(1))
    decoded = task.decode([text for text, _ in corpus], encoding, outputs)
    assert decoded.errors == {}
    (column,) = decoded.columns
    column.validate(full=True)
    assert column.type == task.fields[0].type
    result: list[list[Token]] = column.to_pylist()
    return result


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_plain_implementation(aggregation: Aggregation, marked: bool, data: st.DataObject) -> None:
    # Without aggregation, windows share out their tokens: tests/unit/test_ner.py has such that truly overlap.
    corpus = data.draw(corpora(max_windows=1 if aggregation == "none" else 3))
    decoded = decode(corpus, aggregation, marked)
    for (text, windows), entities in zip(corpus, decoded, strict=True):
        visible = [[token for token in window if not token["special"]] for window in windows]
        wanted = expected(visible, text, aggregation, marked)
        assert [(one["label"], one["start"], one["end"]) for one in entities] == [
            (one["label"], one["start"], one["end"]) for one in wanted
        ]
        assert [one["score"] for one in entities] == pytest.approx([one["score"] for one in wanted], abs=1e-6)
        assert [one["text"] for one in entities] == [text[one["start"] : one["end"]] for one in wanted]
