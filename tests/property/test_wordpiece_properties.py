"""What holds for any text: what is read from tables is what the tokenizer's plain way gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from models.bert import BertTokenizerFast
from models.rocbert import RoCBertTokenizer
from models.roformer import RoFormerTokenizer, RoFormerTokenizerFast
from models.tokenization.flat import FlatEncoding
from tests.support.chinese_texts import CHINESE_TEXTS, write_wordpiece_files

CHINESE = st.text(
    st.sampled_from("今天气好北京龥𠀀𪛖㐀豈，。！“·aZé1 \u3000\u200b\u0301가カΣσİ＃Ａ🙂[]#\n\x00"), max_size=60
)
TEXT = st.one_of(
    CHINESE,
    st.text(max_size=40),
    st.sampled_from(CHINESE_TEXTS),
    st.lists(st.sampled_from(CHINESE_TEXTS), min_size=2, max_size=6).map("".join),
)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordpiece_files(tmp_path_factory.mktemp("wordpiece"), family="roc_bert")


@pytest.fixture(scope="module", params=ARGUMENTS, ids=str)
def arguments(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(scope="module", params=[BertTokenizerFast, RoFormerTokenizerFast], ids=lambda one: str(one.__name__))
def fast(request: pytest.FixtureRequest, arguments: dict[str, Any], folder: Path) -> Any:
    tokenizer = request.param(folder / "vocab.txt", **arguments)
    tokenizer.add_tokens(["天好", AddedToken("aZ", single_word=True), AddedToken("好1", normalized=False)])
    assert tokenizer._flat_pieces is not None
    return tokenizer


@pytest.fixture(scope="module")
def rocbert(arguments: dict[str, Any], folder: Path) -> RoCBertTokenizer:
    tokenizer = RoCBertTokenizer.from_pretrained(folder, **arguments)
    tokenizer.add_tokens(["天好", AddedToken("aZ", single_word=True)])
    return tokenizer


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=5), max_length=st.integers(3, 20), data=st.data())
def test_flat_windows_are_those_of_a_call(fast: Any, texts: list[str], max_length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(0, max_length - 3))
    flat = fast.encode_flat(texts, max_length=max_length, stride=stride, offsets=True)
    called = fast(
        texts,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    assert split(flat.input_ids, flat) == called["input_ids"]
    assert split(flat.offsets, flat) == [[list(span) for span in row] for row in called["offset_mapping"]]
    assert split(flat.special, flat) == called["special_tokens_mask"]
    assert flat.text_index.tolist() == called["overflow_to_sample_mapping"]


@QUICK
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), max_length=st.integers(6, 30))
def test_flat_pairs_are_those_of_a_call(fast: Any, pairs: list[tuple[str, str]], max_length: int) -> None:
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    flat = fast.encode_flat(firsts, seconds, max_length=max_length, overflow=False)
    called = fast(firsts, seconds, truncation=True, max_length=max_length)
    assert split(flat.input_ids, flat) == called["input_ids"]
    assert split(flat.token_type_ids, flat) == called["token_type_ids"]


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=6))
def test_rocbert_reads_from_tables_what_it_reads_by_words(rocbert: RoCBertTokenizer, texts: list[str]) -> None:
    flat = rocbert.encode_flat(texts, offsets=True)
    assert flat.offsets is not None
    for i, text in enumerate(texts):
        place = slice(flat.cu_seqlens[i] + 1, flat.cu_seqlens[i + 1] - 1)
        tokens = rocbert.tokenize(text)
        assert flat.input_ids[place].tolist() == rocbert.convert_tokens_to_ids(tokens)
        assert flat.extras["input_shape_ids"][place].tolist() == rocbert.convert_tokens_to_shape_ids(tokens)
        spans = [(start, end) for _, start, end in rocbert._pieces_of_text(text)]
        assert list(map(tuple, flat.offsets[place].tolist())) == spans


@QUICK
@given(text=TEXT)
def test_offsets_are_in_order_and_in_the_text(fast: Any, rocbert: RoCBertTokenizer, text: str) -> None:
    for tokenizer in (fast, rocbert):
        flat = tokenizer.encode_flat([text], offsets=True)
        assert flat.offsets is not None
        assert flat.special is not None
        spans = flat.offsets[~flat.special]
        assert (spans[:, 0] < spans[:, 1]).all()
        assert (np.diff(spans[:, 0]) >= 0).all()
        assert spans.max(initial=0) <= len(text)


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=8))
def test_a_text_does_not_depend_on_its_neighbours(fast: Any, texts: list[str]) -> None:
    together = fast.encode_flat(texts, offsets=True)
    alone = [fast.encode_flat([text], offsets=True) for text in texts]
    assert together.input_ids.tolist() == [i for one in alone for i in one.input_ids.tolist()]
    assert together.offsets is not None
    assert together.offsets.tolist() == [span for one in alone for span in one.offsets.tolist()]


@QUICK
@given(text=st.text(st.sampled_from("今天气好北京我爱，。！"), max_size=40))
def test_slow_and_fast_agree_on_plain_chinese(folder: Path, text: str) -> None:
    slow, fast = (one(folder / "vocab.txt") for one in (RoFormerTokenizer, RoFormerTokenizerFast))
    assert slow.encode(text) == fast.encode(text)


def split(values: np.ndarray | None, flat: FlatEncoding) -> list[list[int]]:
    """The values of each sequence."""
    assert values is not None
    return [part.tolist() for part in np.split(values, flat.cu_seqlens[1:-1])]
