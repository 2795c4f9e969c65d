"""RoBERTa's models against transformers, from the same weights: every class, corner and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.modeling import PreTrainedModel
from models.roberta import (
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
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
    pack,
)

PAD = 1
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


RIGHT = right_padded(pad=PAD)
CHOICES = choices(RIGHT)


ENCODER_CASES = [
    case("plain", RobertaModel, TINY, RIGHT),
    case("everything", RobertaModel, TINY, RIGHT | EVERYTHING),
    case("left-padded", RobertaModel, TINY, left_padded(pad=PAD) | EVERYTHING),
    case("padding-inside", RobertaModel, TINY, padding_inside(pad=PAD)),
    case("no-mask", RobertaModel, TINY, {"input_ids": RIGHT["input_ids"]}),
    case("float-mask", RobertaModel, TINY, RIGHT | {"attention_mask": IS_TOKEN.float()}),
    case(
        "empty-row",
        RobertaModel,
        TINY,
        RIGHT | {"attention_mask": IS_TOKEN.long() * torch.tensor([[1], [0], [1], [1]])},
    ),
    case("mask-3d", RobertaModel, TINY, RIGHT | {"attention_mask": causal_3d()}),
    case("embeds", RobertaModel, TINY, embedded()),
    case("positions", RobertaModel, TINY, RIGHT | {"position_ids": random_ids(1, 8, high=40)}),
    case("token-types", RobertaModel, TINY, RIGHT | TYPES),
    case("head-mask", RobertaModel, TINY, RIGHT | EVERYTHING | {"head_mask": random(4)}),
    case("head-mask-layers", RobertaModel, TINY, RIGHT | {"head_mask": random(2, 4)}),
    case("one-type", RobertaModel, TINY | {"type_vocab_size": 1}, RIGHT),
    case(
        "odd-heads-tanh",
        RobertaModel,
        TINY | {"hidden_size": 30, "num_attention_heads": 2, "hidden_act": "tanh"},
        RIGHT,
    ),
    case("pad-zero", RobertaModel, TINY | {"pad_token_id": 0, "bos_token_id": 1}, right_padded(pad=0)),
    case("chunks", RobertaModel, TINY | {"chunk_size_feed_forward": 4}, RIGHT),
    case("xielu", RobertaModel, TINY | {"hidden_act": "xielu"}, RIGHT),
    case("prelu", RobertaModel, TINY | {"hidden_act": "prelu"}, RIGHT),
    case("relative-key", RobertaModel, TINY | {"position_embedding_type": "relative_key"}, RIGHT | EVERYTHING),
    case("relative-both", RobertaModel, TINY | {"position_embedding_type": "relative_key_query"}, RIGHT),
]

DECODER_CASES = [
    case("plain", RobertaModel, DECODER, RIGHT | EVERYTHING, comparable=IS_TOKEN),
    case("no-mask", RobertaModel, DECODER, padding_inside(pad=PAD)),
    case("no-cache", RobertaModel, DECODER, RIGHT | {"use_cache": False}, comparable=IS_TOKEN),
    case("left-padded", RobertaModel, DECODER, left_padded(pad=PAD), comparable=IS_TOKEN.flip(1)),
    case("mask-3d", RobertaModel, DECODER, RIGHT | {"attention_mask": torch.ones(4, 8, 8)}),
    case("states-ignored", RobertaModel, TINY, RIGHT | ENCODER_STATES),
    case("cross", RobertaModel, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN),
    case(
        "cross-head-mask", RobertaModel, CROSS, RIGHT | ENCODER_STATES | {"head_mask": random(4)}, comparable=IS_TOKEN
    ),
    case("cross-no-states", RobertaModel, CROSS, RIGHT, comparable=IS_TOKEN),
    case(
        "relative-key", RobertaModel, DECODER | {"position_embedding_type": "relative_key"}, RIGHT, comparable=IS_TOKEN
    ),
    case(
        "relative-both-no-cache",
        RobertaModel,
        DECODER | {"position_embedding_type": "relative_key_query"},
        RIGHT | {"use_cache": False},
        comparable=IS_TOKEN,
    ),
]

HEAD_CASES = [
    case("plain", RobertaForMaskedLM, TINY, RIGHT | EVERYTHING),
    case("untied", RobertaForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case("labels", RobertaForMaskedLM, TINY | {"hidden_act": "relu"}, RIGHT | {"labels": TOKEN_LABELS}),
    case("labels", RobertaForCausalLM, DECODER, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}, comparable=IS_TOKEN),
    case(
        "num-items",
        RobertaForCausalLM,
        DECODER,
        RIGHT | {"labels": TOKEN_LABELS, "num_items_in_batch": 7},
        comparable=IS_TOKEN,
    ),
    case("cross", RobertaForCausalLM, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN),
    case("encoder", RobertaForCausalLM, TINY, RIGHT),
    case(
        "single",
        RobertaForSequenceClassification,
        TINY | {"num_labels": 3},
        RIGHT | EVERYTHING | {"labels": torch.tensor([0, 2, -100, 1])},
    ),
    case(
        "multi", RobertaForSequenceClassification, TINY | {"num_labels": 3}, RIGHT | {"labels": random(4, 3).sigmoid()}
    ),
    case("regression", RobertaForSequenceClassification, TINY | {"num_labels": 1}, RIGHT | {"labels": random(4, 1)}),
    case(
        "regression-3",
        RobertaForSequenceClassification,
        TINY | {"num_labels": 3, "problem_type": "regression"},
        RIGHT | {"labels": random(4, 3)},
    ),
    case("dropout", RobertaForSequenceClassification, TINY | {"classifier_dropout": 0.3}, RIGHT),
    case("labels", RobertaForMultipleChoice, TINY, CHOICES | EVERYTHING | {"labels": torch.tensor([0, 1, 1, 0])}),
    case(
        "embeds",
        RobertaForMultipleChoice,
        TINY,
        {"inputs_embeds": random(2, 3, 8, 32), "position_ids": random_ids(2, 3, 8, high=40)},
    ),
    case(
        "labels", RobertaForTokenClassification, TINY | {"num_labels": 3}, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}
    ),
    case(
        "no-labels",
        RobertaForTokenClassification,
        TINY | {"num_labels": 3},
        RIGHT | {"labels": torch.full((4, 8), -100)},
    ),
    case(
        "labels",
        RobertaForQuestionAnswering,
        TINY,
        RIGHT
        | EVERYTHING
        | {"start_positions": torch.tensor([0, 1, 9, -2]), "end_positions": torch.tensor([[7], [3], [20], [1]])},
    ),
    case("one-end", RobertaForQuestionAnswering, TINY, RIGHT | {"start_positions": torch.tensor([0, 1, 2, 3])}),
]

GRADIENT_CASES = [
    case("base", RobertaModel, TINY, RIGHT | TYPES),
    case("relative", RobertaModel, TINY | {"position_embedding_type": "relative_key_query"}, RIGHT),
    case("cross", RobertaForCausalLM, CROSS, RIGHT | ENCODER_STATES | {"labels": TOKEN_LABELS}),
    case("labels", RobertaForMaskedLM, TINY, RIGHT | {"labels": TOKEN_LABELS}),
    case("untied", RobertaForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT | {"labels": TOKEN_LABELS}),
    case(
        "single",
        RobertaForSequenceClassification,
        TINY | {"num_labels": 3},
        RIGHT | {"labels": torch.tensor([0, 2, 1, 1])},
    ),
    case("labels", RobertaForMultipleChoice, TINY, CHOICES | {"labels": torch.tensor([0, 1, 1, 0])}),
    case("labels", RobertaForTokenClassification, TINY | {"num_labels": 3}, RIGHT | {"labels": TOKEN_LABELS}),
    case(
        "labels",
        RobertaForQuestionAnswering,
        TINY,
        RIGHT | {"start_positions": torch.tensor([0, 1, 9, 2]), "end_positions": torch.tensor([7, 3, 20, 1])},
    ),
]

PACKED_CASES = [
    case("plain", RobertaModel, TINY, RIGHT),
    case("token-types", RobertaModel, TINY, RIGHT | TYPES),
    case(
        "padding-inside",
        RobertaModel,
        TINY,
        RIGHT | {"input_ids": RIGHT["input_ids"].masked_fill(RIGHT["input_ids"] % 7 == 0, PAD)},
    ),
    case("relative", RobertaModel, TINY | {"position_embedding_type": "relative_key_query"}, RIGHT),
    case("odd-heads", RobertaModel, TINY | {"hidden_size": 30, "num_attention_heads": 2}, RIGHT),
    case("decoder", RobertaForCausalLM, DECODER, RIGHT | {"use_cache": False}),
    case("plain", RobertaForMaskedLM, TINY, RIGHT),
    case("plain", RobertaForSequenceClassification, TINY | {"num_labels": 3}, RIGHT),
    case("plain", RobertaForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("plain", RobertaForQuestionAnswering, TINY, RIGHT),
]

SAVED_CASES = [
    case("saved", RobertaModel, TINY, RIGHT),
    case("saved", RobertaForCausalLM, DECODER, {"input_ids": RIGHT["input_ids"], "use_cache": False}),
    case("saved", RobertaForMaskedLM, TINY, RIGHT),
    case("untied", RobertaForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case("saved", RobertaForSequenceClassification, TINY | {"id2label": {0: "no", 1: "yes", 2: "maybe"}}, RIGHT),
    case("saved", RobertaForMultipleChoice, TINY, CHOICES),
    case("saved", RobertaForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("saved", RobertaForQuestionAnswering, TINY, RIGHT),
]


@pytest.mark.parametrize("case", ENCODER_CASES + DECODER_CASES + HEAD_CASES, ids=str)
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


def test_shards_load_in_the_reference(tmp_path: Path) -> None:
    check_saved(SAVED_CASES[0], tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2


@pytest.mark.parametrize(
    "config",
    [
        DECODER,
        DECODER | {"position_embedding_type": "relative_key"},
        DECODER | {"position_embedding_type": "relative_key_query"},
        CROSS,
    ],
    ids=["plain", "relative-key", "relative-both", "cross"],
)
@pytest.mark.parametrize("model_class", [RobertaModel, RobertaForCausalLM], ids=lambda c: c.__name__)
def test_decoding_with_the_cache_equals_the_reference(
    config: dict[str, Any], model_class: type[PreTrainedModel], tmp_path: Path
) -> None:
    states = ENCODER_STATES if "add_cross_attention" in config else {}
    ids = random_ids(4, 8)
    steps = [{"input_ids": part, **states} for part in ids.split([4, 1, 3], dim=1)]
    check_decoding(case("cached", model_class, config, {}), tmp_path, steps)


def test_decoding_of_padded_rows_equals_the_reference(tmp_path: Path) -> None:
    padded = left_padded(pad=PAD)
    new = random_ids(4, 1)
    longer = torch.cat((padded["attention_mask"], torch.ones(4, 1, dtype=torch.int64)), dim=1)
    steps = [padded, {"input_ids": new, "attention_mask": longer}]
    decoder = Case(
        name="padded", model_class=RobertaForCausalLM, config=DECODER, inputs={}, comparable=IS_TOKEN.flip(1)
    )
    check_decoding(decoder, tmp_path, steps)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_equals_padded_on_cuda(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = RobertaConfig(**TINY | {"hidden_size": 64, "initializer_range": 0.1})
    model = RobertaModel(config).eval().to("cuda", dtype)
    inputs = {name: ids.cuda() for name, ids in RIGHT.items()}
    with torch.no_grad():
        padded = model(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
        packed = model.forward_packed(pack(inputs, LENGTHS)).last_hidden_state
    difference = (packed - padded).abs().max().item()
    assert difference <= (1e-4 if dtype == torch.float32 else 0.1)
