"""RobertaTokenizer and RobertaTokenizerFast against the slow and the fast class of transformers v4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from models.roberta.tokenizer import RobertaTokenizer, RobertaTokenizerFast
from tests.support.reference import v4
from tests.support.tokenizer_calls import Call, call, reference_calls, run_calls
from tests.support.tokenizer_texts import AWKWARD_TEXTS, write_byte_level_files

CLASSES: dict[str, Any] = {"RobertaTokenizer": RobertaTokenizer, "RobertaTokenizerFast": RobertaTokenizerFast}
ANY = pytest.mark.parametrize("name", list(CLASSES))

FEW = [
    "Hello world",
    "",
    " ",
    "我爱北京",
    "don't <mask> go",
    "The quick brown fox jumps over the lazy dog",
    "café 🙂",
    "a",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level_files(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary that lacks some bytes, so that there are unknown pieces."""
    return write_byte_level_files(tmp_path_factory.mktemp("sparse"), drop="xåĠ5ðŁ")


def check(name: str, folder: Path, calls: list[Call], **arguments: Any) -> None:
    ours = run_calls(CLASSES[name].from_pretrained(folder, **arguments), calls)
    theirs = v4(reference_calls, name, folder, arguments, calls)
    for one, our, their in zip(calls, ours, theirs, strict=True):
        assert our == their, one


@ANY
@pytest.mark.parametrize("arguments", [{}, {"add_prefix_space": True}], ids=["plain", "prefix-space"])
def test_awkward_texts(name: str, arguments: Mapping[str, Any], folder: Path) -> None:
    extras: dict[str, Any] = {"return_special_tokens_mask": True, "return_token_type_ids": True}
    if name.endswith("Fast"):
        extras["return_offsets_mapping"] = True
    calls = [call(text, **extras) for text in AWKWARD_TEXTS]
    calls += [Call("tokenize", (text,)) for text in AWKWARD_TEXTS]
    calls += [call(text, split_special_tokens=True) for text in AWKWARD_TEXTS]
    assert len(AWKWARD_TEXTS) > 400
    check(name, folder, calls, **arguments)


@ANY
def test_unknown_pieces(name: str, sparse_folder: Path) -> None:
    calls = [call(text) for text in AWKWARD_TEXTS] + [Call("tokenize", (text,)) for text in AWKWARD_TEXTS]
    calls += [
        Call("convert_tokens_to_ids", (token,)) for token in ("å", "Ġ", "no such token", ["Hello", "no such token"])
    ]
    check(name, sparse_folder, calls)


@ANY
def test_decoding(name: str, folder: Path) -> None:
    tokenizer = CLASSES[name].from_pretrained(folder)
    rows = [tokenizer.encode(text) for text in AWKWARD_TEXTS]
    rows += [[i] for i in range(len(tokenizer))] + [[200, 130, 7, 199], [150, 150], []]
    calls = [Call("decode", (row,), {"skip_special_tokens": skip}) for row in rows for skip in (False, True)]
    calls += [Call("decode", (row,), {"clean_up_tokenization_spaces": True}) for row in rows[::5]]
    calls += [Call("batch_decode", (rows[:20],)), Call("decode", (7,))]
    calls += [Call("convert_ids_to_tokens", (row,), {"skip_special_tokens": True}) for row in rows[::5]]
    calls += [Call("convert_ids_to_tokens", (10**6,)), Call("convert_ids_to_tokens", (3,))]
    calls += [Call("convert_tokens_to_string", (tokenizer.tokenize(text),)) for text in AWKWARD_TEXTS]
    check(name, folder, calls)


@ANY
def test_pairs(name: str, folder: Path) -> None:
    pairs = [(a, b) for a in FEW for b in FEW]
    options: dict[str, Any] = {"return_special_tokens_mask": True, "return_token_type_ids": True}
    calls = [call(a, b, **options) for a, b in pairs]
    calls += [call([a for a, _ in pairs], [b for _, b in pairs], **options), call(pairs, **options)]
    calls += [call([list(pair) for pair in pairs]), call(pairs, add_special_tokens=False)]
    calls += [call("a", "b", add_special_tokens=False), Call("encode", ("a b", "c")), Call("encode_plus", ("a b", "c"))]
    calls += [Call("batch_encode_plus", (pairs,)), Call("batch_encode_plus", (FEW,), {"padding": True})]
    check(name, folder, calls)


@ANY
@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_of_texts(name: str, side: str, folder: Path) -> None:
    calls = [
        call(text, truncation=truncation, max_length=max_length, stride=stride, return_overflowing_tokens=overflow)
        for text in FEW
        for truncation in (True, "only_first", "longest_first", False)
        for max_length in (3, 4, 5, 8, 20)
        for stride, overflow in ((0, False), (0, True), (1, True), (2, True))
        if stride < max_length - 2
    ]
    calls += [call(text, max_length=4) for text in FEW]
    calls += [call(text, truncation=True) for text in FEW]
    calls += [call(FEW, truncation=True, max_length=5, padding=padding) for padding in (False, True, "max_length")]
    check(name, folder, calls, truncation_side=side)


@ANY
@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_of_pairs(name: str, side: str, folder: Path) -> None:
    calls = [
        call(a, b, truncation=truncation, max_length=max_length, stride=stride, return_overflowing_tokens=overflow)
        for a, b in [(FEW[5], FEW[0]), (FEW[0], FEW[5]), (FEW[5], FEW[5]), (FEW[3], FEW[4]), (FEW[7], FEW[5])]
        for truncation in ("only_first", "only_second", "longest_first")
        for max_length in (7, 8, 9, 10, 11, 12, 15, 40)
        for stride, overflow in ((0, False), (0, True), (1, True))
    ]
    check(name, folder, calls, truncation_side=side)


@ANY
def test_truncation_that_cannot_be(name: str, folder: Path) -> None:
    calls = [call("a b c", truncation="only_second", max_length=4)]
    calls += [
        call(FEW[5], FEW[0], truncation="only_first", max_length=n, return_overflowing_tokens=True) for n in (4, 5)
    ]
    calls += [call(FEW[5], FEW[0], truncation="only_second", max_length=n) for n in (5, 6)]
    check(name, folder, calls)


@ANY
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding(name: str, side: str, folder: Path) -> None:
    options: dict[str, Any] = {"return_special_tokens_mask": True, "return_token_type_ids": True, "return_length": True}
    calls = [
        call(
            text, padding=padding, max_length=max_length, pad_to_multiple_of=multiple, padding_side=call_side, **options
        )
        for text in (FEW, FEW[0], FEW[5])
        for padding in (False, True, "longest", "max_length", "do_not_pad")
        for max_length in (None, 6, 30)
        for multiple in (None, 8)
        for call_side in (None, "left")
    ]
    calls += [call(FEW, padding="max_length", truncation=True, max_length=16, pad_to_multiple_of=8)]
    calls += [call(FEW, padding=True, truncation=True, max_length=15, pad_to_multiple_of=8)]
    check(name, folder, calls, padding_side=side, model_max_length=24)


@ANY
def test_padding_of_given_rows(name: str, folder: Path) -> None:
    batch = {"input_ids": [[0, 9, 2], [0, 9, 9, 9, 2]], "special_tokens_mask": [[1, 0, 1], [1, 0, 0, 0, 1]]}
    rows = [{"input_ids": [0, 9, 2], "labels": 1}, {"input_ids": [0, 9, 9, 2], "labels": 0}]
    calls = [Call("pad", (batch,)), Call("pad", (rows,)), Call("pad", ({"input_ids": [0, 9, 2]},))]
    calls += [
        Call("pad", (rows,), {"padding": "max_length", "max_length": 7, "return_tensors": kind})
        for kind in ("pt", "np")
    ]
    calls += [Call("pad", (batch,), {"padding_side": "left", "return_attention_mask": False})]
    calls += [
        Call("pad", (batch,), {"pad_to_multiple_of": 4}),
        Call("pad", ({"input_ids": []},)),
        Call("pad", ({"x": [1]},)),
    ]
    check(name, folder, calls)


@ANY
def test_tensors(name: str, folder: Path) -> None:
    calls = [
        call(text, return_tensors=kind, padding=padding, **extra)
        for text in (FEW, FEW[0])
        for kind in ("pt", "np")
        for padding in (False, True)
        for extra in ({}, {"return_length": True}, {"truncation": True, "max_length": 5})
        if kind == "pt" or padding or text is FEW[0]  # of rows that differ in length the reference makes object arrays
    ]
    check(name, folder, calls)


@ANY
def test_words(name: str, folder: Path) -> None:
    words = ["Hello", " world", "", "don't", "北京", "<mask>", "🙂", "a\u3000b", "\u3000c"]
    calls = [
        call(words, is_split_into_words=True),
        call([words, ["a"], ["b", "c"]], is_split_into_words=True, padding=True),
        call(words, ["x", "y"], is_split_into_words=True),
        call(words, is_split_into_words=True, truncation=True, max_length=7),
    ]
    if name.endswith("Fast"):
        calls += [
            call(words, is_split_into_words=True, return_offsets_mapping=True, then=[("word_ids", 0), ("tokens",)])
        ]
        check(name, folder, [call(words, is_split_into_words=True)])
    check(name, folder, calls, add_prefix_space=True)


def test_prefix_space_by_call(folder: Path) -> None:
    calls = [call(text, add_prefix_space=True) for text in AWKWARD_TEXTS[::3]]
    calls += [Call("tokenize", (text,), {"add_prefix_space": True}) for text in AWKWARD_TEXTS[::3]]
    check("RobertaTokenizer", folder, calls)


@pytest.mark.parametrize("trim_offsets", [True, False])
def test_places(trim_offsets: bool, folder: Path) -> None:
    questions: list[tuple[Any, ...]] = [("tokens", 0), ("word_ids", 0), ("words", 0), ("sequence_ids", 0)]
    questions += [("char_to_token", i) for i in range(4)] + [("char_to_token", 0, 2), ("char_to_token", 0, 2, 0)]
    questions += [("token_to_chars", i) for i in range(3)] + [("token_to_word", 1), ("token_to_sequence", 1)]
    questions += [
        ("token_to_chars", 0, 1),
        ("word_to_tokens", 0),
        ("word_to_chars", 0),
        ("char_to_word", 0),
    ]
    texts = [text for text in AWKWARD_TEXTS if text.strip()][::4]
    calls = [call(text, return_offsets_mapping=True, then=questions) for text in texts]
    calls += [
        call(a, b, return_offsets_mapping=True, padding="max_length", max_length=20, then=questions)
        for a, b in zip(FEW[2:], FEW[4:], strict=False)
    ]
    calls += [
        call(text, truncation=True, max_length=6, stride=1, return_overflowing_tokens=True, return_offsets_mapping=True)
        for text in texts
    ]
    check("RobertaTokenizerFast", folder, calls, trim_offsets=trim_offsets)


@ANY
def test_overflow_of_a_batch(name: str, folder: Path) -> None:
    options: dict[str, Any] = {"truncation": True, "max_length": 6, "return_overflowing_tokens": True}
    calls = [call(FEW, **options, stride=stride, return_length=True) for stride in (0, 1, 2)]
    calls += [call([FEW[5]] * 2, ["q"] * 2, **options | {"truncation": "only_first", "max_length": 9}, stride=1)]
    if name.endswith("Fast"):
        calls += [call(FEW, **options, padding=True, return_tensors="pt")]
    check(name, folder, calls)


@ANY
def test_sequences_of_ids(name: str, folder: Path) -> None:
    first, second = list(range(10, 20)), list(range(30, 34))
    calls = [
        Call("build_inputs_with_special_tokens", (first,)),
        Call("build_inputs_with_special_tokens", (first, second)),
    ]
    calls += [
        Call("create_token_type_ids_from_sequences", (first,)),
        Call("create_token_type_ids_from_sequences", (first, second)),
    ]
    calls += [Call("get_special_tokens_mask", ([0, 9, 4, 2], None, True))]
    if name == "RobertaTokenizer":
        calls += [Call("get_special_tokens_mask", (first,)), Call("get_special_tokens_mask", (first, second))]
    calls += [Call("num_special_tokens_to_add", (pair,)) for pair in (False, True)]
    calls += [
        Call(
            "truncate_sequences",
            (first, pair),
            {"num_tokens_to_remove": n, "truncation_strategy": strategy, "stride": 1},
        )
        for pair in (None, second)
        for n in (0, 1, 3, 4, 9, 10)
        for strategy in ("only_first", "only_second", "longest_first", "do_not_truncate")
        if not (pair is None and strategy == "only_second")
    ]
    calls += [
        Call(
            "prepare_for_model",
            (first, pair),
            {
                "truncation": truncation,
                "max_length": 9,
                "padding": padding,
                "stride": 1,
                "return_special_tokens_mask": name == "RobertaTokenizer",  # the fast class fails at it
                "return_length": True,
            },
        )
        for pair in (None, second)
        for truncation in ("only_first", "longest_first", False)
        for padding in (False, "max_length")
    ]
    calls += [
        Call("prepare_for_model", (first,), {"return_tensors": "pt"}),
        Call("prepare_for_model", (first,), {"return_tensors": "pt", "prepend_batch_axis": True}),
    ]
    check(name, folder, calls)


@ANY
def test_special_tokens(name: str, folder: Path) -> None:
    roles = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"]
    calls = [Call(f"{role}_token") for role in roles] + [Call(f"{role}_token_id") for role in roles]
    calls += [Call(attribute) for attribute in (
        "all_special_tokens", "all_special_ids", "special_tokens_map", "additional_special_tokens", "vocab_size",
        "get_vocab", "__len__", "model_max_length", "model_input_names", "padding_side", "truncation_side",
        "clean_up_tokenization_spaces", "is_fast", "pad_token_type_id", "max_len_single_sentence",
        "max_len_sentences_pair", "added_tokens_decoder", "added_tokens_encoder", "get_added_vocab",
        "split_special_tokens", "name_or_path", "vocab_files_names",
    ) if not (attribute == "vocab_files_names" and name == "RobertaTokenizer")]  # fmt: skip
    check(name, folder, calls, model_max_length=512)


@ANY
def test_added_tokens(name: str, folder: Path) -> None:
    calls = [
        Call("add_tokens", (["newtok", "Hello", "brand new", "newtok"],)),
        Call("add_special_tokens", ({"additional_special_tokens": ["<x>", "<y>"]},)),
        Call("add_special_tokens", ({"additional_special_tokens": ["<z>"]}, False)),
        Call("add_special_tokens", ({"pad_token": "<newpad>"},)),
        Call("add_tokens", ([AddedToken("strip", lstrip=True, rstrip=True), AddedToken("single", single_word=True)],)),
        Call("add_tokens", ("special!", True)),
        Call("__len__"), Call("vocab_size"), Call("pad_token_id"), Call("additional_special_tokens"),
        Call("all_special_tokens"), Call("added_tokens_encoder"), Call("add_special_tokens", ({"no_such_role": "x"},)),
    ]  # fmt: skip
    texts = [
        "a newtok b", "anewtokb", "Hello newtoknewtok", "x <x> y<y>z <z>", "brand new  brand newer", "a strip b",
        "astripb", "a  strip  <x>", "a single b", "asingle b", "a singleb", "single", "single,single single",
        "<newpad> <pad>", "special! x", "newtok<mask> newtok",
    ]  # fmt: skip
    calls += [call(text) for text in texts] + [Call("tokenize", (text,)) for text in texts]
    check(name, folder, calls)
    tokenizer = CLASSES[name].from_pretrained(folder)
    run_calls(tokenizer, calls)
    rows = [tokenizer.encode(text) for text in texts]
    decoding = [Call("decode", (row,), {"skip_special_tokens": skip}) for row in rows for skip in (False, True)]
    if name == "RobertaTokenizer":
        decoding += [Call("decode", (row,), {"spaces_between_special_tokens": False}) for row in rows]
    check(name, folder, [*calls[:6], *decoding])


@ANY
def test_what_is_no_text(name: str, folder: Path) -> None:
    calls = [
        call(None),
        call(3),
        call([1, 2]),
        call([]),
        call(["a", None]),
        call(["a", "b"], "c"),
        call(["a"], ["b", "c"]),
    ]
    calls += [call("a", truncation="no_such"), call("a", padding="no_such"), call("a", return_tensors="no_such")]
    check(name, folder, calls)
