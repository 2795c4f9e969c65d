"""What holds for any text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.roberta.tokenizer import RobertaTokenizer, RobertaTokenizerFast
from models.tokenization.flat import FlatEncoding
from tests.support.tokenizer_texts import AWKWARD_TEXTS, write_byte_level_files

TEXT = st.one_of(
    st.text(max_size=40),
    st.sampled_from(AWKWARD_TEXTS),
    st.lists(st.sampled_from(AWKWARD_TEXTS), min_size=2, max_size=6).map(" ".join),
)
PLAIN = st.text(max_size=60).filter(lambda text: not any(c in text for c in "<>"))
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "prefix-space"])
def fast(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RobertaTokenizerFast:
    folder = write_byte_level_files(tmp_path_factory.mktemp("roberta"))
    return RobertaTokenizerFast.from_pretrained(folder, add_prefix_space=request.param)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> RobertaTokenizer:
    return RobertaTokenizer.from_pretrained(write_byte_level_files(tmp_path_factory.mktemp("roberta")))


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=5), max_length=st.integers(3, 20), data=st.data())
def test_flat_windows_are_those_of_a_call(
    fast: RobertaTokenizerFast, texts: list[str], max_length: int, data: st.DataObject
) -> None:
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
@given(texts=st.lists(TEXT, min_size=1, max_size=5), max_length=st.integers(3, 20))
def test_flat_truncation_is_that_of_a_call(fast: RobertaTokenizerFast, texts: list[str], max_length: int) -> None:
    flat = fast.encode_flat(texts, max_length=max_length, overflow=False)
    assert split(flat.input_ids, flat) == fast(texts, truncation=True, max_length=max_length)["input_ids"]
    whole = fast.encode_flat(texts)
    assert split(whole.input_ids, whole) == fast(texts)["input_ids"]


@QUICK
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), max_length=st.integers(6, 30))
def test_flat_pairs_are_those_of_a_call(
    fast: RobertaTokenizerFast, pairs: list[tuple[str, str]], max_length: int
) -> None:
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    flat = fast.encode_flat(firsts, seconds, max_length=max_length, overflow=False, offsets=True)
    called = fast(firsts, seconds, truncation=True, max_length=max_length, return_offsets_mapping=True)
    assert split(flat.input_ids, flat) == called["input_ids"]
    assert split(flat.offsets, flat) == [[list(span) for span in row] for row in called["offset_mapping"]]


@QUICK
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4),
    max_length=st.integers(8, 30),
    stride=st.integers(0, 1),
)
def test_windows_of_pairs_lose_no_token(
    fast: RobertaTokenizerFast, pairs: list[tuple[str, str]], max_length: int, stride: int
) -> None:
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    flat = fast.encode_flat(firsts, seconds, max_length=max_length, stride=stride)
    assert flat.seqlens.max() <= max_length
    separator = fast.sep_token_id
    rows = split(flat.input_ids, flat)
    for i, (first, second) in enumerate(pairs):
        windows = [row for row, owner in zip(rows, flat.text_index, strict=True) if owner == i]
        for text in (first, second):
            assert set(fast.encode(text)) <= {token for row in windows for token in row} | {separator}
        if len(windows) == 1:
            assert windows[0] == fast([first], [second])["input_ids"][0]


@QUICK
@given(text=TEXT)
def test_offsets_cover_the_text(fast: RobertaTokenizerFast, text: str) -> None:
    flat = fast.encode_flat([text], offsets=True)
    assert flat.offsets is not None
    assert flat.special is not None
    spans = flat.offsets[~flat.special]
    assert (spans[:, 0] <= spans[:, 1]).all()
    if fast.add_prefix_space and any(token in text for token in fast.all_special_tokens):
        return  # the blank put after a special token is taken for one of the text, and trimmed from the next character
    assert (np.diff(spans[:, 0]) >= 0).all()
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(char.isspace() for place, char in enumerate(text) if place not in covered)


@QUICK
@given(text=PLAIN)
def test_decoding_gives_the_text_back(fast: RobertaTokenizerFast, slow: RobertaTokenizer, text: str) -> None:
    decoded = fast.decode(fast.encode(text), skip_special_tokens=True)
    assert decoded.removeprefix(" " if fast.add_prefix_space and not text.startswith(" ") else "") == text
    assert slow.decode(slow.encode(text), skip_special_tokens=True) == text


@QUICK
@given(text=PLAIN)
def test_slow_and_fast_agree_on_plain_text(fast: RobertaTokenizerFast, slow: RobertaTokenizer, text: str) -> None:
    if not fast.add_prefix_space:
        assert slow.encode(text) == fast.encode(text)


def split(values: np.ndarray | None, flat: FlatEncoding) -> list[list[int]]:
    """The values of each sequence."""
    assert values is not None
    return [part.tolist() for part in np.split(values, flat.cu_seqlens[1:-1])]
