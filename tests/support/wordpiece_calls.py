"""Calls that every WordPiece tokenizer answers as transformers v4 does: by topic, with the tokenizer's arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from tests.support.chinese_texts import CHINESE_TEXTS, SENTENCES, VOCABULARY
from tests.support.reference import v4
from tests.support.tokenizer_calls import Call, call, reference_calls, run_calls

FEW = [
    "今天天气非常好",
    "",
    " ",
    "Hello wörld",
    "水在零度时会[MASK]",
    "café 🙂 unaffable",
    "a",
    SENTENCES[1],
    "𠀀ab, c#",
]
LONG, SHORT = SENTENCES[1], FEW[0]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
]
SLOW_SETTINGS: list[dict[str, Any]] = [
    *SETTINGS,
    {"do_basic_tokenize": False},
    {"never_split": ["hello", "今天", "#话题#"]},
]
_MASKS: dict[str, Any] = {"return_special_tokens_mask": True, "return_token_type_ids": True}


def check(tokenizer_class: Any, folder: Path, calls: list[Call], **arguments: Any) -> None:
    """Asserts that each call gives what it gives under transformers v4."""
    ours = run_calls(tokenizer_class.from_pretrained(folder, **arguments), calls)
    theirs = v4(reference_calls, tokenizer_class.__name__, folder, arguments, calls)
    for one, our, their in zip(calls, ours, theirs, strict=True):
        if one.args == (CHINESE_TEXTS,):  # say which text
            for place, text in enumerate(CHINESE_TEXTS):
                assert {k: v[place] for k, v in our.items()} == {k: v[place] for k, v in their.items()}, (
                    one.kwargs,
                    text,
                )
        assert our == their, one


def awkward_texts(*, fast: bool) -> list[Call]:
    """Every awkward text, as it is and with special tokens read as text."""
    options = _MASKS | ({"return_offsets_mapping": True} if fast else {})
    calls = [call(CHINESE_TEXTS, **options)]
    calls += [call(text, **options) for text in CHINESE_TEXTS[::11]]
    # The reference's slow classes forget the option in a batch.
    calls += [call(text, split_special_tokens=True) for text in CHINESE_TEXTS if "[" in text]
    return calls + [Call("tokenize", (text,)) for text in CHINESE_TEXTS[::3]]


def topics(*, fast: bool) -> dict[str, tuple[Mapping[str, Any], list[Call]]]:
    """Topic -> the tokenizer's arguments and the calls."""
    found: dict[str, tuple[Mapping[str, Any], list[Call]]] = {
        "pairs": ({}, list(_pairs())),
        "padding": ({"model_max_length": 24}, list(_padding())),
        "left-padding": ({"model_max_length": 24, "padding_side": "left"}, list(_padding())),
        "tensors": ({}, list(_tensors())),
        "decoding": ({}, list(_decoding())),
        "sequences-of-ids": ({}, list(_sequences_of_ids(fast=fast))),
        "special-tokens": ({"model_max_length": 512}, list(_special_tokens())),
        "added-tokens": ({}, list(_added_tokens())),
        "words": ({}, list(_words())),
        "no-text": ({}, list(_no_text())),
    }
    for side in ("right", "left"):
        found[f"truncation-{side}"] = ({"truncation_side": side}, list(_truncation(fast=fast)))
    return found


def _pairs() -> Iterator[Call]:
    pairs = list(product(FEW, FEW))
    yield from (call(a, b, **_MASKS) for a, b in pairs)
    yield call([a for a, _ in pairs], [b for _, b in pairs], **_MASKS)
    yield call(pairs, **_MASKS)
    yield call(pairs, add_special_tokens=False)
    yield call("今天", "天气", add_special_tokens=False)
    yield Call("encode", ("今天 b", "c"))
    yield Call("encode_plus", ("今天 b", "c"))
    yield Call("batch_encode_plus", (pairs,))
    yield Call("batch_encode_plus", (FEW,), {"padding": True})


def _truncation(*, fast: bool) -> Iterator[Call]:
    for text, truncation, length, overflow in product(
        FEW, (True, "only_first", "longest_first", False), (3, 4, 5, 8, 20), (0, 1, 2)
    ):
        stride = max(0, overflow - 1)
        if stride < length - 2:
            yield call(
                text, truncation=truncation, max_length=length, stride=stride, return_overflowing_tokens=overflow > 0
            )
    for (a, b), truncation, length, overflow in product(
        [(LONG, SHORT), (SHORT, LONG), (LONG, LONG), (FEW[3], FEW[4]), ("a", LONG)],
        ("only_first", "only_second", "longest_first"),
        (7, 8, 9, 10, 11, 15, 40),
        (False, True),
    ):
        places = [("sequence_ids", 0), ("sequence_ids", -1), ("word_ids", -1)] if fast else []
        yield call(
            a, b, truncation=truncation, max_length=length, return_overflowing_tokens=overflow, then=places, **_MASKS
        )
    yield from (call(text, max_length=4) for text in FEW)
    yield from (call(FEW, truncation=True, max_length=5, padding=padding) for padding in (False, True, "max_length"))
    for stride in (0, 1, 2):
        yield call(FEW, truncation=True, max_length=6, stride=stride, return_overflowing_tokens=True)
    if fast:
        yield call(
            FEW, truncation=True, max_length=6, return_overflowing_tokens=True, padding=True, return_tensors="pt"
        )


def _padding() -> Iterator[Call]:
    for text, padding, length, multiple, side in product(
        (FEW, FEW[0], FEW[5]), (False, True, "max_length", "do_not_pad"), (None, 6, 30), (None, 8), (None, "left")
    ):
        yield call(
            text,
            padding=padding,
            max_length=length,
            pad_to_multiple_of=multiple,
            padding_side=side,
            return_length=True,
            **_MASKS,
        )
    rows = [{"input_ids": [2, 9, 3], "labels": 1}, {"input_ids": [2, 9, 9, 3], "labels": 0}]
    yield Call("pad", (rows,))
    yield Call("pad", (rows,), {"padding": "max_length", "max_length": 7, "return_tensors": "pt"})


def _tensors() -> Iterator[Call]:
    for kind in ("pt", "np"):
        yield call(FEW, return_tensors=kind, padding=True)
        yield call(FEW[0], return_tensors=kind)
        yield call(FEW[0], FEW[3], return_tensors=kind, truncation=True, max_length=8)
        yield call(FEW, return_tensors=kind, padding="max_length", truncation=True, max_length=9)


def _decoding() -> Iterator[Call]:
    size = len(VOCABULARY)
    rows = [list(range(i, min(i + 7, size))) for i in range(0, size, 5)]
    rows += [[2, i, i + 1, 3, 0, 0] for i in range(5, size - 1, 9)] + [[]]
    for row, skip in product(rows, (False, True)):
        yield Call("decode", (row,), {"skip_special_tokens": skip})
    yield from (Call("decode", (row,), {"clean_up_tokenization_spaces": True}) for row in rows[::5])
    yield Call("batch_decode", (rows[:20],))
    yield Call("convert_ids_to_tokens", (rows[3], True))
    yield Call("convert_ids_to_tokens", (3,))
    yield from (Call("convert_tokens_to_ids", (token,)) for token in ("今天", "no such token", ["今", "no such token"]))
    yield from (Call("convert_tokens_to_string", (VOCABULARY[i : i + 6],)) for i in range(0, size, 11))


def _sequences_of_ids(*, fast: bool) -> Iterator[Call]:
    first, second = list(range(10, 20)), list(range(30, 34))
    for texts in ((first,), (first, second)):
        yield Call("build_inputs_with_special_tokens", texts)
        yield Call("create_token_type_ids_from_sequences", texts)
        if not fast:  # the reference's fast class fails at it
            yield Call("get_special_tokens_mask", texts)
    yield Call("get_special_tokens_mask", ([2, 9, 4, 3], None, True))
    yield from (Call("num_special_tokens_to_add", (pair,)) for pair in (False, True))
    for pair, count, strategy in product((None, second), (0, 1, 4, 10), ("only_first", "longest_first")):
        yield Call(
            "truncate_sequences",
            (first, pair),
            {"num_tokens_to_remove": count, "truncation_strategy": strategy, "stride": 1},
        )


def _special_tokens() -> Iterator[Call]:
    for role in ("unk", "sep", "pad", "cls", "mask"):
        yield Call(f"{role}_token")
        yield Call(f"{role}_token_id")
    yield from (Call(attribute) for attribute in (
        "all_special_tokens", "all_special_ids", "special_tokens_map", "additional_special_tokens", "vocab_size",
        "get_vocab", "__len__", "model_max_length", "model_input_names", "padding_side", "truncation_side",
        "clean_up_tokenization_spaces", "is_fast", "pad_token_type_id", "max_len_single_sentence",
        "max_len_sentences_pair", "added_tokens_decoder", "added_tokens_encoder", "get_added_vocab",
        "split_special_tokens", "name_or_path", "do_lower_case",
    ))  # fmt: skip


def _added_tokens() -> Iterator[Call]:
    yield Call("add_tokens", (["NewTok", "今天天气", "hello", "brand new", "NewTok"],))
    yield Call("add_special_tokens", ({"additional_special_tokens": ["<X>", "<y>"]},))
    yield Call("add_special_tokens", ({"additional_special_tokens": ["<Z>"]}, False))
    yield Call("add_tokens", ([AddedToken("strip", lstrip=True, rstrip=True), AddedToken("single", single_word=True)],))
    yield Call("add_tokens", ([AddedToken("Verbatim", normalized=False)],))
    yield Call("add_tokens", ("special!", True))
    yield from (
        Call(one) for one in ("__len__", "vocab_size", "all_special_tokens", "added_tokens_encoder", "get_added_vocab")
    )
    texts = [
        "a NewTok b", "anewtokb", "hello NEWTOKnewtok", "x <X> y<y>z <Z>", "<x>", "brand new  brand newer", "a strip b",
        "astripb", "a  strip  <X>", "a single b", "asingle b", "a singleb", "single", "今天天气好", "今 天天气",
        "neẃtok", "verbatim Verbatim", "special! x", "newtok[MASK] newtok", "NewTok今天", "Hello", "new\u200btok",
    ]  # fmt: skip
    yield from (call(text) for text in texts)
    yield from (Call("tokenize", (text,)) for text in texts)


def _words() -> Iterator[Call]:
    words = ["今天", " world", "", "don't", "北京", "[MASK]", "🙂", "a\u3000b", "café"]
    yield call(words, is_split_into_words=True)
    yield call([words, ["a"], ["b", "c"]], is_split_into_words=True, padding=True)
    yield call(words, ["x", "y"], is_split_into_words=True)
    yield call(words, is_split_into_words=True, truncation=True, max_length=7)


def _no_text() -> Iterator[Call]:
    yield from (call(wrong) for wrong in (None, 3, [1, 2], [], ["a", None]))
    yield call(["a", "b"], "c")
    yield call(["a"], ["b", "c"])
    yield call("a", truncation="no_such")
    yield call("a", return_tensors="no_such")
