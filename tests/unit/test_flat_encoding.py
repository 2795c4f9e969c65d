"""Flat encoding: windows, pairs, offsets computed from lengths, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken
from tokenizers.models import WordPiece

from models.bert import BertTokenizerFast
from models.roberta.tokenizer import RobertaTokenizerFast
from models.tokenization.memo import CutPieces, one_by_one
from tests.support.tokenizer_texts import AWKWARD_TEXTS, write_byte_level_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level_files(tmp_path_factory.mktemp("roberta"))


@pytest.fixture
def tokenizer(folder: Path) -> RobertaTokenizerFast:
    return RobertaTokenizerFast.from_pretrained(folder)


@pytest.mark.parametrize("arguments", [{}, {"trim_offsets": False}, {"add_prefix_space": True}])
@pytest.mark.parametrize("drop", ["", "xåĠ5ðŁ"], ids=["all-bytes", "some-bytes"])
def test_offsets_are_those_of_the_library(arguments: dict[str, Any], drop: str, tmp_path: Path) -> None:
    tokenizer = RobertaTokenizerFast.from_pretrained(write_byte_level_files(tmp_path, drop=drop), **arguments)
    tokenizer.add_tokens(
        ["ello wor", "é", AddedToken("fox", lstrip=True, rstrip=True), AddedToken("the", single_word=True)]
    )
    for texts in (AWKWARD_TEXTS, ["", ""], ["a", "", "<mask>"], []):
        flat = tokenizer.encode_flat(texts, offsets=True)
        expected = tokenizer(texts, return_offsets_mapping=True) if texts else {"input_ids": [], "offset_mapping": []}
        assert flat.input_ids.tolist() == [i for row in expected["input_ids"] for i in row]
        assert flat.offsets is not None
        assert flat.offsets.tolist() == [list(span) for row in expected["offset_mapping"] for span in row]


def test_a_row_does_not_depend_on_its_neighbours(tokenizer: RobertaTokenizerFast) -> None:
    together = tokenizer.encode_flat(AWKWARD_TEXTS, max_length=9, stride=2, offsets=True)
    assert together.offsets is not None
    for i, text in enumerate(AWKWARD_TEXTS[::7]):
        alone = tokenizer.encode_flat([text], max_length=9, stride=2, offsets=True)
        (sequences,) = np.nonzero(together.text_index == 7 * i)
        place = slice(together.cu_seqlens[sequences[0]], together.cu_seqlens[sequences[-1] + 1])
        assert (together.input_ids[place] == alone.input_ids).all()
        assert (together.offsets[place] == alone.offsets).all()


def test_windows_of_a_pair_cut_the_longer_text(tokenizer: RobertaTokenizerFast) -> None:
    question, context = "who", "the quick brown fox jumps over the lazy dog and runs"
    flat = tokenizer.encode_flat([question], [context], max_length=14, stride=2)
    start = tokenizer([question])["input_ids"][0]
    windows = [part.tolist() for part in np.split(flat.input_ids, flat.cu_seqlens[1:-1])]
    assert len(windows) > 1
    assert all(window[: len(start)] == start for window in windows)
    expected = tokenizer(
        question, context, truncation="only_second", max_length=14, stride=2, return_overflowing_tokens=True
    )
    assert windows == expected["input_ids"]


def test_token_types_only_where_they_differ(tokenizer: RobertaTokenizerFast) -> None:
    assert tokenizer.encode_flat(["a"], ["b"]).token_type_ids is None


def test_special_tokens_may_be_text(folder: Path) -> None:
    tokenizer = RobertaTokenizerFast.from_pretrained(folder, split_special_tokens=True)
    flat = tokenizer.encode_flat(["a</s>b"], offsets=True)
    assert flat.input_ids.tolist() == tokenizer("a</s>b")["input_ids"]
    assert flat.input_ids.tolist().count(tokenizer.sep_token_id) == 1
    assert flat.offsets is not None
    assert flat.offsets[-2].tolist() == [5, 6]


def test_types_of_arrays(tokenizer: RobertaTokenizerFast) -> None:
    flat = tokenizer.encode_flat(["a b", ""], offsets=True)
    arrays = (flat.input_ids, flat.cu_seqlens, flat.text_index, flat.offsets, flat.special)
    assert [array.dtype for array in arrays if array is not None] == ["int32", "int64", "int32", "int32", "bool"]
    assert flat.seqlens.tolist() == [4, 2]
    assert (flat.num_sequences, flat.num_tokens) == (2, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 2}, "leaves no room for text"),
        ({"max_length": 5, "stride": 3}, "stride 3 must be"),
        ({"max_length": 5, "stride": -1}, "stride -1 must be"),
    ],
)
def test_no_room(tokenizer: RobertaTokenizerFast, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer.encode_flat(["a"], **arguments)


def test_pairs_that_are_too_few(tokenizer: RobertaTokenizerFast) -> None:
    with pytest.raises(ValueError, match="found 1 pairs and 2 texts"):
        tokenizer.encode_flat(["a", "b"], ["c"])


def test_token_lengths(tokenizer: RobertaTokenizerFast) -> None:
    lengths = tokenizer.token_lengths
    assert [len(token) for token in ("<mask>", "Ġthe")] == [
        lengths[tokenizer.convert_tokens_to_ids(token)] for token in ("<mask>", "Ġthe")
    ]
    tokenizer.add_tokens("quite long")
    assert tokenizer.token_lengths[-1] == 10
    assert tokenizer.continuing_subword_prefix == ""


@pytest.mark.parametrize("prefix", ["##", "un"])
def test_words_cut_by_the_library_are_those_cut_one_by_one(prefix: str, tmp_path: Path) -> None:
    """A prefix of letters hides where words begin."""
    pieces = ["un", "aff", "able", "a", "b", f"{prefix}aff", f"{prefix}able", f"{prefix}a", f"{prefix}b"]
    backend = BertTokenizerFast(_write_vocabulary(tmp_path, pieces)).backend_tokenizer
    backend.model = WordPiece(backend.get_vocab(), unk_token="[UNK]", continuing_subword_prefix=prefix)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=tmp_path / "tokenizer.json")
    words = ["unaffable", "a", "abab", "x", "abx", "unx", "a" * 100, "a" * 101, "able"] * 300
    ours, expected = tokenizer._cut_words(words), one_by_one(tokenizer._cut_word)(words)
    for name in CutPieces._fields:
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))


def _write_vocabulary(folder: Path, pieces: list[str]) -> Path:
    path = folder / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]), encoding="utf-8")
    return path
