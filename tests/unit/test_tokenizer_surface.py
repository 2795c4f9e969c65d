"""What a user of the tokenizers meets besides ids: encodings, messages, files that are not there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ModelNotFound, TokenizerError
from models.roberta.tokenizer import RobertaTokenizer, RobertaTokenizerFast
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.fast import PreTrainedTokenizerFast
from tests.support.tokenizer_texts import write_byte_level_files

CLASSES = [RobertaTokenizer, RobertaTokenizerFast]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level_files(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="module")
def fast(folder: Path) -> RobertaTokenizerFast:
    return RobertaTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def slow(folder: Path) -> RobertaTokenizer:
    return RobertaTokenizer.from_pretrained(folder)


def test_an_encoding_is_a_mapping_with_attributes(fast: RobertaTokenizerFast) -> None:
    encoding = fast(["one", "two words"], padding=True, return_tensors="pt")
    assert encoding.input_ids is encoding["input_ids"]
    assert set(encoding) == {"input_ids", "attention_mask"} == set(dict(**encoding))
    assert encoding.to("cpu") is encoding
    assert encoding[0].tokens == encoding.tokens(0)
    assert encoding[:1]["input_ids"].shape[0] == 1
    assert (encoding.n_sequences, encoding.is_fast) == (1, True)
    with pytest.raises(AttributeError, match="no column or attribute 'labels'; columns: input_ids, attention_mask"):
        _ = encoding.labels


def test_to_moves_tensors_only() -> None:
    encoding = BatchEncoding({"input_ids": torch.zeros(1, 2), "text": ["a"]}).to("meta")
    assert encoding["input_ids"].device.type == "meta"
    assert encoding["text"] == ["a"]


def test_empty_rows_are_integers(fast: RobertaTokenizerFast) -> None:
    assert fast([""], add_special_tokens=False, return_tensors="pt")["input_ids"].dtype == torch.int64


def test_questions_to_a_slow_encoding(slow: RobertaTokenizer) -> None:
    with pytest.raises(ValueError, match="fast tokenizers only"):
        slow("a").word_ids()
    with pytest.raises(NotImplementedError, match="fast tokenizers only"):
        slow("a", return_offsets_mapping=True)


@pytest.mark.parametrize("tokenizer_class", CLASSES)
@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((None,), {}, "text must be a str, .* found a NoneType"),
        (([1, 2],), {}, "found a list of int; for token ids use prepare_for_model"),
        (([],), {}, "found an empty batch"),
        ((["a", "b"], ["c"]), {}, "found 2 texts and 1 pairs"),
        ((["a", "bc d"],), {"return_tensors": "pt"}, "use padding=True"),
        (("a",), {"return_tensors": "tf"}, 'must be "pt", "np" or None'),
        (("a",), {"padding": "longish"}, "longish"),
        (([["a", "b", "c"]],), {}, "for words use is_split_into_words=True"),
        (
            (["a"],),
            {"padding": True, "truncation": True, "max_length": 15, "pad_to_multiple_of": 8},
            "contradict each other",
        ),
    ],
)
def test_messages_of_calls(
    tokenizer_class: Any, folder: Path, args: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer_class.from_pretrained(folder)(*args, **options)


@pytest.mark.parametrize("tokenizer_class", CLASSES)
def test_an_unknown_option_is_refused(tokenizer_class: Any, folder: Path) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        tokenizer_class.from_pretrained(folder)("a", no_such_option=1)


@pytest.mark.parametrize("tokenizer_class", CLASSES)
def test_padding_without_a_pad_token(tokenizer_class: Any, folder: Path) -> None:
    tokenizer = tokenizer_class.from_pretrained(folder)
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    with pytest.raises(ValueError, match=r"set tokenizer\.pad_token"):
        tokenizer("a", padding=True)
    tokenizer.pad_token_id = 2
    assert tokenizer.pad_token == "</s>"
    assert tokenizer("a", padding="max_length", max_length=5)["input_ids"][-2:] == [2, 2]


@pytest.mark.parametrize("tokenizer_class", CLASSES)
def test_a_role_may_be_switched_off(tokenizer_class: Any, folder: Path) -> None:
    tokenizer = tokenizer_class.from_pretrained(folder, mask_token=None)
    assert tokenizer.mask_token is None
    assert "mask_token" not in tokenizer.special_tokens_map


def test_impossible_limits(fast: RobertaTokenizerFast) -> None:
    for options, message in [
        ({"max_length": 1}, "less than the 2 special tokens"),
        ({"max_length": 4, "stride": 2}, "stride 2 must be less than 2"),
        ({"max_length": 3, "truncation": "only_second"}, "needs a text_pair"),
    ]:
        with pytest.raises(ValueError, match=message):
            fast("some longer text", **{"truncation": True, **options})
    with pytest.raises(ValueError, match="truncation='longest_first'"):
        fast("a", "some longer text", truncation="only_first", max_length=5)
    with pytest.raises(ValueError, match="add_prefix_space=True"):
        fast(["a", "b"], is_split_into_words=True)


def test_a_long_text_is_mentioned_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = RobertaTokenizerFast.from_pretrained(folder, model_max_length=4)
    with caplog.at_level(logging.WARNING):
        assert len(tokenizer.encode("a text that is too long")) > 4
        tokenizer.encode("a text that is too long")
    assert [record.getMessage().split(" is longer")[0][:10] for record in caplog.records] == ["a sequence"]


def test_missing_and_broken_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        RobertaTokenizerFast.from_pretrained(tmp_path / "nowhere")
    for tokenizer_class in CLASSES:
        with pytest.raises(TokenizerError, match=r"expected vocab.json and merges.txt, or tokenizer.json"):
            tokenizer_class.from_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match=r"expected tokenizer.json"):
        PreTrainedTokenizerFast.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer.json: not a tokenizer"):
        RobertaTokenizerFast.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(TokenizerError, match="expected a JSON object, found a list"):
        RobertaTokenizer.from_pretrained(tmp_path)


def test_merges_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(TokenizerError, match="do not fit together"):
        RobertaTokenizerFast.from_pretrained(tmp_path)
    slow = RobertaTokenizer.from_pretrained(tmp_path)  # as in transformers: what is not in the vocabulary is unknown
    assert slow.tokenize("aab") == ["a", "ab"]
    assert slow.encode("aab") == [0, 4, 3, 2]


def test_repr_says_which(fast: RobertaTokenizerFast) -> None:
    assert repr(fast).startswith("RobertaTokenizerFast(name_or_path=")
