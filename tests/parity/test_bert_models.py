"""BERT's models against transformers, from the same weights: every class, corner and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.bert import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
)
from models.modeling import PreTrainedModel
from tests.support.model_inputs import (
    ENCODER_STATES,
    EVERYTHING,
    IS_TOKEN,
    LENGTHS,
    TOKEN_LABELS,
    TYPES,
    causal_3d,
    choices,
    embedded,
    left_padded,
    padding_inside,
    random,
    random_ids,
    right_padded,
)
from tests.support.model_parity import (
    Case,
    case,
    check_decoding,
    check_forward,
    check_gradients,
    check_packed,
    check_saved,
)

TINY: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
}
DECODER = TINY | {"is_decoder": True}
CROSS = DECODER | {"add_cross_attention": True}
RELATIVE = {"position_embedding_type": "relative_key_query"}
RIGHT = right_padded()
CHOICES = choices(RIGHT)
FOLLOWS = torch.tensor([0, 1, 1, 0])
ENDS = {"start_positions": torch.tensor([0, 1, 9, 2]), "end_positions": torch.tensor([[7], [3], [20], [1]])}

BASE_CASES = [
    case("everything", BertModel, TINY, RIGHT | TYPES | EVERYTHING),
    case("left-padded", BertModel, TINY, left_padded() | EVERYTHING),
    case("padding-inside", BertModel, TINY, padding_inside()),
    case("mask-3d", BertModel, TINY, RIGHT | {"attention_mask": causal_3d()}),
    case("embeds", BertModel, TINY, embedded()),
    case("positions", BertModel, TINY, RIGHT | {"position_ids": random_ids(1, 8, high=40)}),
    case("head-mask", BertModel, TINY, RIGHT | EVERYTHING | {"head_mask": random(2, 4)}),
    case("relative", BertModel, TINY | RELATIVE, RIGHT | EVERYTHING),
    case("silu", BertModel, TINY | {"hidden_act": "silu", "layer_norm_eps": 1e-5}, RIGHT),
    case("decoder", BertModel, DECODER, RIGHT | EVERYTHING, comparable=IS_TOKEN),
    case("decoder-left-padded", BertModel, DECODER, left_padded(), comparable=IS_TOKEN.flip(1)),
    case("cross", BertModel, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN),
]

HEAD_CASES = [
    case("labels", BertLMHeadModel, DECODER, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}, comparable=IS_TOKEN),
    case("cross", BertLMHeadModel, CROSS, RIGHT | ENCODER_STATES, comparable=IS_TOKEN),
    case("labels", BertForMaskedLM, TINY, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}),
    case("untied", BertForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case(
        "labels",
        BertForPreTraining,
        TINY,
        RIGHT | EVERYTHING | {"labels": TOKEN_LABELS, "next_sentence_label": FOLLOWS},
    ),
    case("one-label", BertForPreTraining, TINY, RIGHT | {"labels": TOKEN_LABELS}),
    case("labels", BertForNextSentencePrediction, TINY, RIGHT | TYPES | EVERYTHING | {"labels": FOLLOWS}),
    case("single", BertForSequenceClassification, TINY | {"num_labels": 3}, RIGHT | EVERYTHING | {"labels": FOLLOWS}),
    case("dropout", BertForSequenceClassification, TINY | {"classifier_dropout": 0.3, "num_labels": 1}, RIGHT),
    case("labels", BertForMultipleChoice, TINY, CHOICES | EVERYTHING | {"labels": FOLLOWS}),
    case("labels", BertForTokenClassification, TINY | {"num_labels": 3}, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}),
    case("labels", BertForQuestionAnswering, TINY, RIGHT | EVERYTHING | ENDS),
]

GRADIENT_CASES = [
    case("base", BertModel, TINY, RIGHT | TYPES),
    case("cross", BertLMHeadModel, CROSS, RIGHT | ENCODER_STATES | {"labels": TOKEN_LABELS}),
    case("labels", BertForPreTraining, TINY, RIGHT | {"labels": TOKEN_LABELS, "next_sentence_label": FOLLOWS}),
    case("labels", BertForMaskedLM, TINY, RIGHT | {"labels": TOKEN_LABELS}),
    case("labels", BertForNextSentencePrediction, TINY, RIGHT | {"labels": FOLLOWS}),
    case("single", BertForSequenceClassification, TINY | {"num_labels": 3}, RIGHT | {"labels": FOLLOWS}),
    case("labels", BertForMultipleChoice, TINY, CHOICES | {"labels": FOLLOWS}),
    case("labels", BertForTokenClassification, TINY | {"num_labels": 3}, RIGHT | {"labels": TOKEN_LABELS}),
    case("labels", BertForQuestionAnswering, TINY, RIGHT | ENDS),
]

PACKED_CASES = [
    case("token-types", BertModel, TINY, RIGHT | TYPES),
    case("relative", BertModel, TINY | RELATIVE, RIGHT),
    case("decoder", BertLMHeadModel, DECODER, RIGHT | {"use_cache": False}),
    case("plain", BertForMaskedLM, TINY, RIGHT),
    case("plain", BertForPreTraining, TINY, RIGHT),
    case("plain", BertForNextSentencePrediction, TINY, RIGHT),
    case("plain", BertForSequenceClassification, TINY | {"num_labels": 3}, RIGHT),
    case("plain", BertForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("plain", BertForQuestionAnswering, TINY, RIGHT),
]

SAVED_CASES = [
    case("saved", BertModel, TINY, RIGHT),
    case("saved", BertLMHeadModel, DECODER, {"input_ids": RIGHT["input_ids"], "use_cache": False}),
    case("saved", BertForMaskedLM, TINY, RIGHT),
    case("untied", BertForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case("saved", BertForPreTraining, TINY, RIGHT),
    case("saved", BertForNextSentencePrediction, TINY, RIGHT),
    case("saved", BertForSequenceClassification, TINY | {"id2label": {0: "no", 1: "yes", 2: "maybe"}}, RIGHT),
    case("saved", BertForMultipleChoice, TINY, CHOICES),
    case("saved", BertForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("saved", BertForQuestionAnswering, TINY, RIGHT),
]


@pytest.mark.parametrize("case", BASE_CASES + HEAD_CASES, ids=str)
def test_outputs_equal_the_reference(case: Case, tmp_path: Path) -> None:
    check_forward(case, tmp_path)


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradients_equal_the_reference(case: Case, tmp_path: Path) -> None:
    check_gradients(case, tmp_path)


@pytest.mark.parametrize("case", PACKED_CASES, ids=str)
def test_packed_and_alone_equal_padded(case: Case, tmp_path: Path) -> None:
    check_packed(case, tmp_path, LENGTHS)


@pytest.mark.parametrize("case", SAVED_CASES, ids=str)
def test_saved_checkpoints_load_in_the_reference(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


@pytest.mark.parametrize("config", [DECODER, DECODER | RELATIVE, CROSS], ids=["plain", "relative", "cross"])
@pytest.mark.parametrize("model_class", [BertModel, BertLMHeadModel], ids=lambda c: c.__name__)
def test_decoding_with_the_cache_equals_the_reference(
    config: dict[str, Any], model_class: type[PreTrainedModel], tmp_path: Path
) -> None:
    states = ENCODER_STATES if "add_cross_attention" in config else {}
    steps = [{"input_ids": part, **states} for part in random_ids(4, 8).split([4, 1, 3], dim=1)]
    check_decoding(case("cached", model_class, config, {}), tmp_path, steps)
