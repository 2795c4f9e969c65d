"""Tokenizers of other families, from their `tokenizer.json`, against transformers v4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from models import load_tokenizer
from models.roberta.tokenizer import CamembertTokenizerFast, XLMRobertaTokenizerFast
from models.tokenization.fast import PreTrainedTokenizerFast
from tests.support.reference import v4
from tests.support.tokenizer_calls import Call, call, reference_calls, run_calls
from tests.support.tokenizer_texts import AWKWARD_TEXTS, SPECIAL_TOKENS, TRAINING_TEXT

QUESTIONS = [("tokens", 0), ("word_ids", 0), ("sequence_ids", 0)]
EVERYTHING: dict[str, Any] = {
    "return_offsets_mapping": True,
    "return_special_tokens_mask": True,
    "return_token_type_ids": True,
}
CALLS = [
    *(call(text, **EVERYTHING, then=QUESTIONS) for text in AWKWARD_TEXTS),
    *(call(a, b, **EVERYTHING) for a, b in zip(AWKWARD_TEXTS[30:60], AWKWARD_TEXTS[60:90], strict=True)),
    *(call(a, b, add_special_tokens=False, **EVERYTHING) for a, b in [("one", "two three"), ("北京", "x")]),
    *(
        call(
            text,
            truncation=True,
            max_length=7,
            stride=2,
            return_overflowing_tokens=True,
            padding=True,
            **EVERYTHING,
            then=QUESTIONS,
        )
        for text in TRAINING_TEXT
    ),
    *(
        call(
            TRAINING_TEXT[0],
            text,
            truncation=strategy,
            max_length=16,
            add_special_tokens=special,
            return_overflowing_tokens=overflow,
            **EVERYTHING,
        )
        for text in ("one two", TRAINING_TEXT[1])
        for strategy in ("only_first", "only_second", "longest_first")
        for special in (True, False)
        for overflow in (False, True)
        if not (overflow and strategy == "longest_first")
    ),
    *(
        call(["Hello", "new world", ""], is_split_into_words=True, then=QUESTIONS, **extra)
        for extra in ({}, {"truncation": True, "max_length": 5})
    ),
    *(
        Call("decode", (list(range(i, i + 9)),), {"skip_special_tokens": skip})
        for i in range(0, 100, 9)
        for skip in (False, True)
    ),
    *(Call("num_special_tokens_to_add", (pair,)) for pair in (False, True)),
    *(
        Call(attribute)
        for attribute in (
            "all_special_tokens",
            "all_special_ids",
            "pad_token_id",
            "mask_token_id",
            "__len__",
            "model_input_names",
        )
    ),
]


def train_sentencepiece_like(folder: Path, special_tokens: list[str]) -> Path:
    """A Unigram model after Metaspace, with the layout of XLM-RoBERTa and CamemBERT."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special_tokens, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("ours", "name", "family", "special_tokens"),
    [
        (XLMRobertaTokenizerFast, "XLMRobertaTokenizerFast", "xlm-roberta", SPECIAL_TOKENS),
        (
            CamembertTokenizerFast,
            "CamembertTokenizerFast",
            "camembert",
            ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>"],
        ),
    ],
)
def test_relatives_of_roberta(
    ours: type[PreTrainedTokenizerFast], name: str, family: str, special_tokens: list[str], tmp_path: Path
) -> None:
    folder = train_sentencepiece_like(tmp_path / "model", special_tokens)
    (folder / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    assert type(tokenizer) is ours
    reference = v4(reference_calls, name, folder, {}, CALLS)
    for one, our, their in zip(CALLS, run_calls(tokenizer, CALLS), reference, strict=True):
        assert our == their, one
    tokenizer.save_pretrained(tmp_path / "saved")
    assert v4(reference_calls, name, tmp_path / "saved", {}, CALLS) == reference
    assert run_calls(ours.from_pretrained(tmp_path / "saved"), CALLS) == reference


def test_wordpiece(tmp_path: Path) -> None:
    """Any `tokenizer.json`: here one that changes the text, marks the second text by its type and continues with ##."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    roles = {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(roles.values()), show_progress=False)
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 3))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(roles), encoding="utf-8")

    ours = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert ours.continuing_subword_prefix == "##"
    reference = v4(reference_calls, "PreTrainedTokenizerFast", tmp_path, {}, CALLS)
    for one, our, their in zip(CALLS, run_calls(ours, CALLS), reference, strict=True):
        assert our == their, one
