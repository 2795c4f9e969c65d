"""RoFormerTokenizer and RoFormerTokenizerFast against the slow and the fast class of transformers v4."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from models.roformer import RoFormerTokenizer, RoFormerTokenizerFast
from tests.support.chinese_texts import CHINESE_TEXTS, SENTENCES, write_wordpiece_files
from tests.support.tokenizer_calls import call
from tests.support.wordpiece_calls import FEW, SETTINGS, SLOW_SETTINGS, awkward_texts, check, topics


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordpiece_files(tmp_path_factory.mktemp("roformer"), family="roformer")


@pytest.mark.parametrize("arguments", SLOW_SETTINGS, ids=str)
def test_awkward_texts_slow(arguments: Mapping[str, Any], folder: Path) -> None:
    assert len(CHINESE_TEXTS) > 1500
    check(RoFormerTokenizer, folder, awkward_texts(fast=False), **arguments)


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_awkward_texts_fast(arguments: Mapping[str, Any], folder: Path) -> None:
    check(RoFormerTokenizerFast, folder, awkward_texts(fast=True), **arguments)


@pytest.mark.parametrize("topic", topics(fast=False))
def test_slow(topic: str, folder: Path) -> None:
    arguments, calls = topics(fast=False)[topic]
    check(RoFormerTokenizer, folder, calls, **arguments)


@pytest.mark.parametrize("topic", topics(fast=True))
def test_fast(topic: str, folder: Path) -> None:
    arguments, calls = topics(fast=True)[topic]
    check(RoFormerTokenizerFast, folder, calls, **arguments)


def test_places(folder: Path) -> None:
    questions: list[tuple[Any, ...]] = [("tokens", 0), ("word_ids", 0), ("sequence_ids", 0)]
    questions += [("char_to_token", i) for i in range(4)] + [("char_to_token", 0, 2), ("char_to_token", 0, 2, 0)]
    questions += [("token_to_chars", i) for i in range(3)] + [("token_to_word", 1), ("token_to_sequence", 1)]
    questions += [("word_to_tokens", 0), ("word_to_chars", 0), ("char_to_word", 0)]
    # Of a text without tokens, the reference raises where there is no answer.
    texts = [text for text in CHINESE_TEXTS if any(map(str.isalnum, text))][::9]
    calls = [call(text, return_offsets_mapping=True, then=questions) for text in [*SENTENCES, *texts]]
    calls += [call(a, b, return_offsets_mapping=True, then=questions) for a, b in pairwise(FEW[3:])]
    windows: dict[str, Any] = {"truncation": True, "max_length": 6, "stride": 1, "return_overflowing_tokens": True}
    calls += [call(text, return_offsets_mapping=True, **windows) for text in [*SENTENCES, *texts]]
    check(RoFormerTokenizerFast, folder, calls)
