"""RoCBertTokenizer against the class of transformers v4; offsets, which that lacks, against the fast BERT class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bert import BertTokenizer, BertTokenizerFast
from models.errors import TokenizerError
from models.rocbert import RoCBertTokenizer
from models.tokenization.wordpiece_flat import FlatWordPieceTokenizer
from tests.support.chinese_texts import CHINESE_TEXTS, write_wordpiece_files
from tests.support.tokenizer_calls import Call, call
from tests.support.wordpiece_calls import FEW, SLOW_SETTINGS, awkward_texts, check, topics

NAMES = ("input_ids", "input_shape_ids", "input_pronunciation_ids")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordpiece_files(tmp_path_factory.mktemp("rocbert"), family="roc_bert")


@pytest.mark.parametrize("arguments", SLOW_SETTINGS, ids=str)
def test_awkward_texts(arguments: Mapping[str, Any], folder: Path) -> None:
    check(RoCBertTokenizer, folder, awkward_texts(fast=False), **arguments)


@pytest.mark.parametrize("topic", topics(fast=False))
def test_calls(topic: str, folder: Path) -> None:
    arguments, calls = topics(fast=False)[topic]
    check(RoCBertTokenizer, folder, calls, **arguments)


def test_shapes_and_pronunciations(folder: Path) -> None:
    first, second = [list(range(start, start + 8)) for start in (10, 20, 30)], [[40, 41], [50, 51], [60, 61]]
    calls = [
        Call("prepare_for_model", (*first, *pair), {"truncation": truncation, "max_length": 9, "padding": padding})
        for pair in ((), second)
        for truncation in ("only_first", "longest_first", False)
        for padding in (False, "max_length")
    ]
    calls += [
        Call(f"convert_tokens_to_{kind}_ids", (tokens,))
        for kind in ("shape", "pronunciation")
        for tokens in (["今", "[UNK]", "no such token", "##able", "[CLS]"], "今天x", [])
    ]
    calls += [Call("build_inputs_with_special_tokens", ([1, 2], [3]), {"cls_token_id": 7, "sep_token_id": 8})]
    batch = {name: [[2, 9, 3], [2, 9, 9, 9, 3]] for name in NAMES}
    calls += [Call("pad", (batch,), {"padding_side": side, "return_tensors": "pt"}) for side in ("left", "right")]
    check(RoCBertTokenizer, folder, calls)
    check(RoCBertTokenizer, folder, [call(FEW, padding=True)], pad_token="今")


@pytest.mark.parametrize("arguments", SLOW_SETTINGS[:-1], ids=str)
def test_flat_encoding_is_that_of_tokens(arguments: Mapping[str, Any], folder: Path) -> None:
    """What is read from tables is what `tokenize` gives."""
    tokenizer = RoCBertTokenizer.from_pretrained(folder, **arguments)
    flat = tokenizer.encode_flat(CHINESE_TEXTS)
    rows = [tokenizer.tokenize(text) for text in CHINESE_TEXTS]
    unknown = [tokenizer.word_shape["[UNK]"]]
    expected = {
        "input_ids": [tokenizer.build_inputs_with_special_tokens(tokenizer.convert_tokens_to_ids(r)) for r in rows],
        "input_shape_ids": [unknown + tokenizer.convert_tokens_to_shape_ids(row) + unknown for row in rows],
    }
    assert flat.input_ids.tolist() == [i for row in expected["input_ids"] for i in row]
    assert flat.extras["input_shape_ids"].tolist() == [i for row in expected["input_shape_ids"] for i in row]
    assert set(flat.extras) == set(NAMES[1:])


def test_windows_carry_shapes_and_pronunciations(folder: Path) -> None:
    tokenizer = RoCBertTokenizer.from_pretrained(folder)
    whole = {name: tokenizer(CHINESE_TEXTS)[name] for name in NAMES}
    flat = tokenizer.encode_flat(CHINESE_TEXTS, max_length=9, stride=2)
    values = {"input_ids": flat.input_ids, **flat.extras}
    for name in NAMES:
        windows = np.split(values[name], flat.cu_seqlens[1:-1])
        for text_index in range(0, len(CHINESE_TEXTS), 13):
            own = [w.tolist()[1:-1] for w, i in zip(windows, flat.text_index, strict=True) if i == text_index]
            joined = own[0] + [token for window in own[1:] for token in window[2:]]
            assert joined == whole[name][text_index][1:-1]


def test_pairs_in_flat_arrays(folder: Path) -> None:
    tokenizer = RoCBertTokenizer.from_pretrained(folder)
    firsts, seconds = [a for a in FEW for _ in FEW], FEW * len(FEW)
    flat = tokenizer.encode_flat(firsts, seconds, max_length=12, overflow=False)
    expected = tokenizer.encode_flat(firsts, seconds)
    called = tokenizer(firsts, seconds)
    assert expected.input_ids.tolist() == [i for row in called["input_ids"] for i in row]
    assert expected.token_type_ids is not None
    assert expected.token_type_ids.tolist() == [i for row in called["token_type_ids"] for i in row]
    for name in NAMES[1:]:
        assert expected.extras[name].tolist() == [i for row in called[name] for i in row]
    assert flat.seqlens.max() == 12


@pytest.mark.parametrize("arguments", SLOW_SETTINGS, ids=str)
def test_offsets_from_tables_are_those_of_words(arguments: Mapping[str, Any], folder: Path) -> None:
    tokenizer = RoCBertTokenizer.from_pretrained(folder, **arguments)
    tables = tokenizer._flat_tokens(CHINESE_TEXTS, with_offsets=True)
    words = FlatWordPieceTokenizer._flat_tokens_by_words(tokenizer, CHINESE_TEXTS)
    assert tables.offsets is not None
    assert words.offsets is not None
    assert tables.ids.tolist() == words.ids.tolist()
    assert tables.offsets.tolist() == words.offsets.tolist()


def test_offsets_are_those_of_bert(folder: Path) -> None:
    """Where the slow and the fast rules give the same tokens, they stand for the same characters."""
    ours = RoCBertTokenizer.from_pretrained(folder).encode_flat(CHINESE_TEXTS, offsets=True)
    fast = BertTokenizerFast(folder / "vocab.txt").encode_flat(CHINESE_TEXTS, offsets=True)
    assert ours.offsets is not None
    assert fast.offsets is not None
    num_same = 0
    for i in range(len(CHINESE_TEXTS)):
        own = slice(ours.cu_seqlens[i], ours.cu_seqlens[i + 1])
        other = slice(fast.cu_seqlens[i], fast.cu_seqlens[i + 1])
        if ours.input_ids[own].tolist() == fast.input_ids[other].tolist():
            num_same += 1
            assert ours.offsets[own].tolist() == fast.offsets[other].tolist(), CHINESE_TEXTS[i]
    assert num_same > 0.9 * len(CHINESE_TEXTS)


def test_same_tokens_as_bert(folder: Path) -> None:
    bert = BertTokenizer(folder / "vocab.txt")
    tokenizer = RoCBertTokenizer.from_pretrained(folder)
    assert tokenizer(CHINESE_TEXTS)["input_ids"] == bert(CHINESE_TEXTS)["input_ids"]


def test_all_three_files_are_required(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    with pytest.raises(TokenizerError, match=r"expected word_shape\.json"):
        RoCBertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "word_shape.json").write_text('{"[MASK]": 1}')
    with pytest.raises(TokenizerError, match=r"expected an entry for \[UNK\]"):
        RoCBertTokenizer.from_pretrained(tmp_path)
