"""RoCBert's models against transformers v5, from the same weights: every class, corner and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.modeling import PreTrainedModel
from models.rocbert import (
    RoCBertConfig,
    RoCBertForCausalLM,
    RoCBertForMaskedLM,
    RoCBertForMultipleChoice,
    RoCBertForPreTraining,
    RoCBertForQuestionAnswering,
    RoCBertForSequenceClassification,
    RoCBertForTokenClassification,
    RoCBertModel,
)
from tests.support.model_inputs import (
    ENCODER_STATES,
    EVERYTHING,
    IS_TOKEN,
    LENGTHS,
    TOKEN_LABELS,
    TYPES,
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
    v5,
)
from tests.support.reference import v4

TINY: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
    "shape_vocab_size": 23,
    "shape_embed_dim": 20,
    "pronunciation_vocab_size": 17,
    "pronunciation_embed_dim": 12,
}
WORDS_ONLY = TINY | {"enable_shape": False, "enable_pronunciation": False}
AVERAGED = TINY | {"concat_input": False, "shape_embed_dim": 32, "pronunciation_embed_dim": 32}
DECODER = TINY | {"is_decoder": True}
CROSS = DECODER | {"add_cross_attention": True}

WORDS = right_padded()
SHAPES = {"input_shape_ids": random_ids(4, 8, low=0, high=23)}
SOUNDS = {"input_pronunciation_ids": random_ids(4, 8, low=0, high=17)}
RIGHT = WORDS | SHAPES | SOUNDS
CHOICES = choices(RIGHT)
CORRECT = {f"labels_{name}": ids for name, ids in RIGHT.items()} | {"labels_input_ids": TOKEN_LABELS}
ATTACK = {
    "attack_input_ids": random_ids(4, 6),
    "attack_input_shape_ids": random_ids(4, 6, low=0, high=23),
    "attack_input_pronunciation_ids": random_ids(4, 6, low=0, high=17),
    "attack_attention_mask": ENCODER_STATES["encoder_attention_mask"],
    "attack_token_type_ids": random_ids(4, 6, low=0, high=2),
}

EMBEDDING_CASES = [
    case(f"{how}-shape-{shape}-sound-{sound}-{given}", RoCBertModel, config | switches, inputs, reference=v5)
    for how, config in (("concatenated", TINY), ("averaged", AVERAGED))
    for shape in (True, False)
    for sound in (True, False)
    for switches in [{"enable_shape": shape, "enable_pronunciation": sound}]
    for given, inputs in (("all", RIGHT), ("words", WORDS), ("shapes", WORDS | SHAPES), ("sounds", WORDS | SOUNDS))
]

ENCODER_CASES = [
    case("everything", RoCBertModel, TINY, RIGHT | TYPES | EVERYTHING, reference=v5),
    case("left-padded", RoCBertModel, TINY, left_padded() | SHAPES | SOUNDS, reference=v5),
    case("padding-inside", RoCBertModel, TINY, padding_inside(), reference=v5),
    case("embeds", RoCBertModel, TINY, embedded() | SHAPES, reference=v5),
    case("embeds-averaged", RoCBertModel, AVERAGED, embedded() | SOUNDS, reference=v5),
    case("positions", RoCBertModel, TINY, RIGHT | {"position_ids": random_ids(1, 8, high=40)}, reference=v5),
    case("odd-heads", RoCBertModel, TINY | {"hidden_size": 30, "num_attention_heads": 2}, RIGHT, reference=v5),
    case("pad-five", RoCBertModel, TINY | {"pad_token_id": 5}, right_padded(pad=5) | SHAPES, reference=v5),
    case("chunks", RoCBertModel, TINY | {"chunk_size_feed_forward": 4, "hidden_act": "relu"}, RIGHT, reference=v5),
    case("head-mask", RoCBertModel, TINY, RIGHT | {"head_mask": random(4)}, reference=v4),
    case("relative-key", RoCBertModel, TINY | {"position_embedding_type": "relative_key"}, RIGHT, reference=v4),
]

DECODER_CASES = [
    case("plain", RoCBertModel, DECODER, RIGHT | EVERYTHING, comparable=IS_TOKEN, reference=v5),
    case("no-cache", RoCBertModel, DECODER, RIGHT | {"use_cache": False}, comparable=IS_TOKEN, reference=v5),
    case("cross", RoCBertModel, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN, reference=v5),
    case("cross-no-states", RoCBertModel, CROSS, RIGHT, comparable=IS_TOKEN, reference=v5),
]

HEAD_CASES = [
    case("words", RoCBertForPreTraining, TINY, RIGHT | EVERYTHING, reference=v5),
    case("masked", RoCBertForPreTraining, TINY, RIGHT | CORRECT, reference=v5),
    case("attack-alone", RoCBertForPreTraining, TINY, RIGHT | ATTACK, reference=v5),
    case("both", RoCBertForPreTraining, TINY, RIGHT | TYPES | CORRECT | ATTACK, reference=v5),
    case("both-averaged", RoCBertForPreTraining, AVERAGED, RIGHT | CORRECT | ATTACK, reference=v5),
    case("plain", RoCBertForMaskedLM, TINY, RIGHT | EVERYTHING, reference=v5),
    case("untied", RoCBertForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT, reference=v5),
    case("labels", RoCBertForMaskedLM, TINY | {"hidden_act": "tanh"}, RIGHT | {"labels": TOKEN_LABELS}, reference=v5),
    case(
        "labels",
        RoCBertForCausalLM,
        DECODER,
        RIGHT | EVERYTHING | {"labels": TOKEN_LABELS},
        comparable=IS_TOKEN,
        reference=v5,
    ),
    case("cross", RoCBertForCausalLM, CROSS, RIGHT | ENCODER_STATES, comparable=IS_TOKEN, reference=v5),
    case("last", RoCBertForCausalLM, DECODER, WORDS | {"logits_to_keep": 3}, reference=v5),
    case(
        "single",
        RoCBertForSequenceClassification,
        TINY | {"num_labels": 3},
        RIGHT | EVERYTHING | {"labels": torch.tensor([0, 2, -100, 1])},
        reference=v5,
    ),
    case(
        "multi",
        RoCBertForSequenceClassification,
        TINY | {"num_labels": 3, "classifier_dropout": 0.3},
        RIGHT | {"labels": random(4, 3).sigmoid()},
        reference=v5,
    ),
    case(
        "regression",
        RoCBertForSequenceClassification,
        AVERAGED | {"num_labels": 1},
        RIGHT | {"labels": random(4, 1)},
        reference=v5,
    ),
    case(
        "labels",
        RoCBertForMultipleChoice,
        TINY,
        CHOICES | EVERYTHING | {"labels": torch.tensor([0, 1, 1, 0])},
        reference=v5,
    ),
    case("embeds", RoCBertForMultipleChoice, TINY, {"inputs_embeds": random(2, 3, 8, 32)}, reference=v5),
    case(
        "labels",
        RoCBertForTokenClassification,
        TINY | {"num_labels": 3},
        RIGHT | EVERYTHING | {"labels": TOKEN_LABELS},
        reference=v5,
    ),
    case(
        "labels",
        RoCBertForQuestionAnswering,
        TINY,
        RIGHT
        | EVERYTHING
        | {"start_positions": torch.tensor([0, 1, 9, -2]), "end_positions": torch.tensor([[7], [3], [20], [1]])},
        reference=v5,
    ),
]

GRADIENT_CASES = [
    case("base", RoCBertModel, TINY, RIGHT | TYPES, reference=v5),
    case("no-ids", RoCBertModel, TINY, WORDS, reference=v5),
    case("averaged", RoCBertModel, AVERAGED, RIGHT, reference=v5),
    case("both", RoCBertForPreTraining, TINY, RIGHT | CORRECT | ATTACK, reference=v5),
    case("cross", RoCBertForCausalLM, CROSS, RIGHT | ENCODER_STATES | {"labels": TOKEN_LABELS}, reference=v5),
    case("labels", RoCBertForMaskedLM, TINY, RIGHT | {"labels": TOKEN_LABELS}, reference=v5),
    case(
        "single",
        RoCBertForSequenceClassification,
        TINY | {"num_labels": 3},
        RIGHT | {"labels": torch.tensor([0, 2, 1, 1])},
        reference=v5,
    ),
    case("labels", RoCBertForMultipleChoice, TINY, CHOICES | {"labels": torch.tensor([0, 1, 1, 0])}, reference=v5),
    case(
        "labels",
        RoCBertForTokenClassification,
        TINY | {"num_labels": 3},
        RIGHT | {"labels": TOKEN_LABELS},
        reference=v5,
    ),
    case(
        "labels",
        RoCBertForQuestionAnswering,
        TINY,
        RIGHT | {"start_positions": torch.tensor([0, 1, 9, 2]), "end_positions": torch.tensor([7, 3, 20, 1])},
        reference=v5,
    ),
]

PACKED_CASES = [
    case("plain", RoCBertModel, TINY, RIGHT | TYPES, reference=v5),
    case("words", RoCBertModel, TINY, WORDS, reference=v5),
    case("averaged", RoCBertModel, AVERAGED, RIGHT, reference=v5),
    case("shapes-averaged", RoCBertModel, AVERAGED, WORDS | SHAPES, reference=v5),
    case("words-only", RoCBertModel, WORDS_ONLY, RIGHT, reference=v5),
    case("plain", RoCBertForPreTraining, TINY, RIGHT, reference=v5),
    case("decoder", RoCBertForCausalLM, DECODER, RIGHT | {"use_cache": False}, reference=v5),
    case("plain", RoCBertForMaskedLM, TINY, RIGHT, reference=v5),
    case("plain", RoCBertForSequenceClassification, TINY | {"num_labels": 3}, RIGHT, reference=v5),
    case("plain", RoCBertForTokenClassification, TINY | {"num_labels": 3}, RIGHT, reference=v5),
    case("plain", RoCBertForQuestionAnswering, TINY, RIGHT, reference=v5),
]

SAVED_CASES = [
    case("saved", RoCBertModel, TINY, RIGHT),
    case("averaged", RoCBertModel, AVERAGED, RIGHT),
    case("words-only", RoCBertModel, WORDS_ONLY, RIGHT),
    case("saved", RoCBertForPreTraining, TINY, RIGHT | CORRECT | ATTACK),
    case("saved", RoCBertForCausalLM, DECODER, {"input_ids": WORDS["input_ids"], "use_cache": False}),
    case("saved", RoCBertForMaskedLM, TINY, RIGHT),
    case("untied", RoCBertForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case("saved", RoCBertForSequenceClassification, TINY | {"id2label": {0: "no", 1: "yes", 2: "maybe"}}, RIGHT),
    case("saved", RoCBertForMultipleChoice, TINY, CHOICES),
    case("saved", RoCBertForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("saved", RoCBertForQuestionAnswering, TINY, RIGHT),
]


@pytest.mark.parametrize("case", EMBEDDING_CASES + ENCODER_CASES + DECODER_CASES + HEAD_CASES, ids=str)
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


@pytest.mark.parametrize("config", [DECODER, CROSS], ids=["plain", "cross"])
@pytest.mark.parametrize("model_class", [RoCBertModel, RoCBertForCausalLM], ids=lambda c: c.__name__)
def test_decoding_with_the_cache_equals_the_reference(
    config: dict[str, Any], model_class: type[PreTrainedModel], tmp_path: Path
) -> None:
    states = ENCODER_STATES if "add_cross_attention" in config else {}
    inputs = {"input_ids": random_ids(4, 8)} | SHAPES | SOUNDS
    parts = {name: ids.split([4, 1, 3], dim=1) for name, ids in inputs.items()}
    steps = [{name: parts[name][step] for name in parts} | states for step in range(3)]
    check_decoding(case("cached", model_class, config, {}, reference=v5), tmp_path, steps)


def test_arguments_by_position() -> None:
    torch.manual_seed(0)
    model = RoCBertModel(RoCBertConfig(**TINY)).eval()
    expected = model(**RIGHT).last_hidden_state
    by_position = model(RIGHT["input_ids"], *SHAPES.values(), *SOUNDS.values(), RIGHT["attention_mask"])
    assert torch.equal(by_position.last_hidden_state, expected)


def test_averaged_parts_have_one_width() -> None:
    model = RoCBertModel(RoCBertConfig(**TINY | {"concat_input": False}))
    model(**WORDS)
    with pytest.raises(ValueError, match=r"concat_input=False: expected .* equal to hidden_size 32; found 20, 12"):
        model(**RIGHT)


def test_shape_and_pronunciation_change_what_a_text_means() -> None:
    torch.manual_seed(0)
    model = RoCBertModel(RoCBertConfig(**TINY)).eval()
    plain = model(**RIGHT).pooler_output
    assert not torch.allclose(plain, model(**WORDS | SHAPES).pooler_output)
    assert not torch.allclose(plain, model(**WORDS | SOUNDS).pooler_output)
    assert model.get_shape_embeddings().weight.shape == (23, 20)
    assert model.get_pronunciation_embeddings().weight.shape == (17, 12)
