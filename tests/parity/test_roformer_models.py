"""RoFormer's models against transformers, from the same weights: every class, corner and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.batch import TokenBatch
from models.modeling import PreTrainedModel
from models.roformer import (
    RoFormerForCausalLM,
    RoFormerForMaskedLM,
    RoFormerForMultipleChoice,
    RoFormerForQuestionAnswering,
    RoFormerForSequenceClassification,
    RoFormerForTokenClassification,
    RoFormerModel,
)
from tests.support import reference_models
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
    assert_close,
    assert_same,
    case,
    check_decoding,
    check_forward,
    check_gradients,
    check_packed,
    check_saved,
)
from tests.support.reference import v4

TINY: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 24,
}
NARROW = TINY | {"embedding_size": 12}
VALUES = TINY | {"rotary_value": True}
DECODER = TINY | {"is_decoder": True}
CROSS = DECODER | {"add_cross_attention": True}
RIGHT = right_padded()
CHOICES = choices(RIGHT)
CHOICE_LABELS = {"labels": torch.tensor([0, 1, 1, 0])}

ENCODER_CASES = [
    case("plain", RoFormerModel, TINY, RIGHT),
    case("everything", RoFormerModel, TINY, RIGHT | EVERYTHING),
    case("narrow", RoFormerModel, NARROW, RIGHT | EVERYTHING),
    case("wide", RoFormerModel, TINY | {"embedding_size": 48}, RIGHT),
    case("values", RoFormerModel, VALUES, RIGHT | EVERYTHING),
    case("values-left-padded", RoFormerModel, VALUES, left_padded()),
    case("left-padded", RoFormerModel, TINY, left_padded() | EVERYTHING),
    case("padding-inside", RoFormerModel, TINY, padding_inside()),
    case("no-mask", RoFormerModel, TINY, {"input_ids": RIGHT["input_ids"]}),
    case("float-mask", RoFormerModel, TINY, RIGHT | {"attention_mask": IS_TOKEN.float()}),
    case("mask-3d", RoFormerModel, TINY, RIGHT | {"attention_mask": causal_3d()}),
    case("embeds", RoFormerModel, TINY, embedded()),
    case("narrow-embeds", RoFormerModel, NARROW, {"inputs_embeds": random(4, 8, 12)}),
    case("token-types", RoFormerModel, TINY, RIGHT | TYPES),
    case("head-mask", RoFormerModel, VALUES, RIGHT | EVERYTHING | {"head_mask": random(4)}),
    case("head-mask-layers", RoFormerModel, TINY, RIGHT | {"head_mask": random(2, 4)}),
    case("one-type", RoFormerModel, TINY | {"type_vocab_size": 1}, RIGHT),
    case("two-wide-heads", RoFormerModel, TINY | {"hidden_size": 30, "num_attention_heads": 3}, RIGHT),
    case("relu", RoFormerModel, TINY | {"hidden_act": "relu", "layer_norm_eps": 1e-5}, RIGHT),
    case("chunks", RoFormerModel, TINY | {"chunk_size_feed_forward": 4}, RIGHT),
    case("whole-table", RoFormerModel, TINY, {"input_ids": random_ids(2, 24)}),
]

DECODER_CASES = [
    case("plain", RoFormerModel, DECODER, RIGHT | EVERYTHING, comparable=IS_TOKEN),
    case("no-cache", RoFormerModel, DECODER, RIGHT | {"use_cache": False}, comparable=IS_TOKEN),
    case("left-padded", RoFormerModel, DECODER, left_padded(), comparable=IS_TOKEN.flip(1)),
    case("states-ignored", RoFormerModel, TINY, RIGHT | ENCODER_STATES),
    case("cross", RoFormerModel, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN),
    case("cross-values", RoFormerModel, CROSS | {"rotary_value": True}, RIGHT | ENCODER_STATES, comparable=IS_TOKEN),
    case(
        "cross-head-mask", RoFormerModel, CROSS, RIGHT | ENCODER_STATES | {"head_mask": random(4)}, comparable=IS_TOKEN
    ),
]

HEAD_CASES = [
    case("plain", RoFormerForMaskedLM, TINY, RIGHT | EVERYTHING),
    case("narrow", RoFormerForMaskedLM, NARROW, RIGHT | {"labels": TOKEN_LABELS}),
    case("untied", RoFormerForMaskedLM, NARROW | {"tie_word_embeddings": False}, RIGHT),
    case("tanh", RoFormerForMaskedLM, TINY | {"hidden_act": "tanh"}, RIGHT | {"labels": TOKEN_LABELS}),
    case("prelu", RoFormerForMaskedLM, TINY | {"hidden_act": "prelu"}, RIGHT),
    case("labels", RoFormerForCausalLM, DECODER, RIGHT | EVERYTHING | {"labels": TOKEN_LABELS}, comparable=IS_TOKEN),
    case(
        "num-items",
        RoFormerForCausalLM,
        DECODER,
        RIGHT | {"labels": TOKEN_LABELS, "num_items_in_batch": 7},
        comparable=IS_TOKEN,
    ),
    case("cross", RoFormerForCausalLM, CROSS, RIGHT | ENCODER_STATES | EVERYTHING, comparable=IS_TOKEN),
    case("cross-mask", RoFormerForCausalLM, TINY, RIGHT | {"cross_attn_head_mask": random(4)}),
    case(
        "single",
        RoFormerForSequenceClassification,
        NARROW | {"num_labels": 3},
        RIGHT | EVERYTHING | {"labels": torch.tensor([0, 2, -100, 1])},
    ),
    case(
        "multi",
        RoFormerForSequenceClassification,
        TINY | {"num_labels": 3, "hidden_act": "relu"},
        RIGHT | {"labels": random(4, 3).sigmoid()},
    ),
    case("prelu", RoFormerForSequenceClassification, TINY | {"hidden_act": "prelu"}, RIGHT),
    case("regression", RoFormerForSequenceClassification, TINY | {"num_labels": 1}, RIGHT | {"labels": random(4, 1)}),
    *(
        case(f"{kind}-summary", RoFormerForMultipleChoice, NARROW | {"summary_type": kind}, CHOICES | CHOICE_LABELS)
        for kind in ("last", "first", "mean", "cls_index")
    ),
    case(
        "projected",
        RoFormerForMultipleChoice,
        TINY
        | {
            "summary_use_proj": True,
            "summary_activation": "tanh",
            "summary_first_dropout": 0.3,
            "summary_last_dropout": 0.2,
        },
        CHOICES | EVERYTHING | CHOICE_LABELS,
    ),
    case(
        "projected-to-labels",
        RoFormerForMultipleChoice,
        TINY | {"summary_use_proj": True, "summary_proj_to_labels": True, "num_labels": 32},
        CHOICES,
    ),
    case("embeds", RoFormerForMultipleChoice, NARROW, {"inputs_embeds": random(2, 3, 8, 12)}),
    case(
        "labels",
        RoFormerForTokenClassification,
        NARROW | {"num_labels": 3},
        RIGHT | EVERYTHING | {"labels": TOKEN_LABELS},
    ),
    case(
        "labels",
        RoFormerForQuestionAnswering,
        TINY | {"num_labels": 5},
        RIGHT
        | EVERYTHING
        | {"start_positions": torch.tensor([0, 1, 9, -2]), "end_positions": torch.tensor([[7], [3], [20], [1]])},
    ),
]

GRADIENT_CASES = [
    case("base", RoFormerModel, NARROW, RIGHT | TYPES),
    case("values", RoFormerModel, VALUES, RIGHT),
    case(
        "cross", RoFormerForCausalLM, CROSS | {"embedding_size": 12}, RIGHT | ENCODER_STATES | {"labels": TOKEN_LABELS}
    ),
    case("labels", RoFormerForMaskedLM, NARROW, RIGHT | {"labels": TOKEN_LABELS}),
    case(
        "single",
        RoFormerForSequenceClassification,
        TINY | {"num_labels": 3},
        RIGHT | {"labels": torch.tensor([0, 2, 1, 1])},
    ),
    case("labels", RoFormerForMultipleChoice, TINY | {"summary_use_proj": True}, CHOICES | CHOICE_LABELS),
    case("labels", RoFormerForTokenClassification, TINY | {"num_labels": 3}, RIGHT | {"labels": TOKEN_LABELS}),
    case(
        "labels",
        RoFormerForQuestionAnswering,
        TINY,
        RIGHT | {"start_positions": torch.tensor([0, 1, 9, 2]), "end_positions": torch.tensor([7, 3, 20, 1])},
    ),
]

PACKED_CASES = [
    case("narrow", RoFormerModel, NARROW, RIGHT | TYPES),
    case("values", RoFormerModel, VALUES, RIGHT),
    case("decoder", RoFormerForCausalLM, DECODER | {"rotary_value": True}, RIGHT | {"use_cache": False}),
    case("plain", RoFormerForMaskedLM, TINY, RIGHT),
    case("plain", RoFormerForSequenceClassification, NARROW | {"num_labels": 3}, RIGHT),
    case("plain", RoFormerForTokenClassification, NARROW | {"num_labels": 3}, RIGHT),
    case("plain", RoFormerForQuestionAnswering, TINY, RIGHT),
]

SAVED_CASES = [
    case("saved", RoFormerModel, NARROW, RIGHT),
    case("values", RoFormerModel, VALUES, RIGHT),
    case("saved", RoFormerForCausalLM, DECODER, {"input_ids": RIGHT["input_ids"], "use_cache": False}),
    case("saved", RoFormerForMaskedLM, NARROW, RIGHT),
    case("untied", RoFormerForMaskedLM, TINY | {"tie_word_embeddings": False}, RIGHT),
    case("saved", RoFormerForSequenceClassification, TINY | {"id2label": {0: "no", 1: "yes", 2: "maybe"}}, RIGHT),
    case("saved", RoFormerForMultipleChoice, TINY | {"summary_use_proj": True, "summary_type": "mean"}, CHOICES),
    case("saved", RoFormerForTokenClassification, TINY | {"num_labels": 3}, RIGHT),
    case("saved", RoFormerForQuestionAnswering, TINY, RIGHT),
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


@pytest.mark.parametrize("kind", ["last", "first", "mean"])
def test_packed_choices_equal_each_alone(kind: str, tmp_path: Path) -> None:
    """Padded rows do not: their last place, and their mean, are padding's too."""
    v4(reference_models.create, str(tmp_path), "RoFormerForMultipleChoice", NARROW | {"summary_type": kind})
    model = RoFormerForMultipleChoice.from_pretrained(tmp_path)
    rows = [random_ids(length).tolist() for length in LENGTHS]
    with torch.no_grad():
        packed = model.forward_packed(TokenBatch.from_sequences(rows)).logits
        alone = torch.cat([model(torch.tensor([[row]])).logits[0] for row in rows])
    assert_close(packed, alone, "logits")


@pytest.mark.parametrize("config", [DECODER, DECODER | {"rotary_value": True}, CROSS], ids=["plain", "values", "cross"])
@pytest.mark.parametrize("model_class", [RoFormerModel, RoFormerForCausalLM], ids=lambda c: c.__name__)
def test_decoding_with_the_cache_equals_the_reference(
    config: dict[str, Any], model_class: type[PreTrainedModel], tmp_path: Path
) -> None:
    states = ENCODER_STATES if "add_cross_attention" in config else {}
    steps = [{"input_ids": part, **states} for part in random_ids(4, 8).split([4, 1, 3], dim=1)]
    check_decoding(case("cached", model_class, config, {}), tmp_path, steps)


def test_decoding_of_padded_rows_equals_the_reference(tmp_path: Path) -> None:
    padded = left_padded()
    longer = torch.cat((padded["attention_mask"], torch.ones(4, 1, dtype=torch.int64)), dim=1)
    steps = [padded, {"input_ids": random_ids(4, 1), "attention_mask": longer}]
    decoder = case("padded", RoFormerForCausalLM, DECODER, {}, comparable=IS_TOKEN.flip(1))
    check_decoding(decoder, tmp_path, steps)


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("cross", [True, False])
def test_tuples_are_the_reference_s(return_dict: bool, cross: bool, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RoFormerModel", DECODER | {"add_cross_attention": cross})
    inputs = RIGHT | EVERYTHING | {"return_dict": return_dict} | (ENCODER_STATES if cross else {})
    expected = v4(reference_models.fields, str(tmp_path), "RoFormerModel", inputs)
    assert reference_models.fields_of(RoFormerModel.from_pretrained(tmp_path), inputs) == expected


# -- the position table ----------------------------------------------------------------------------------------


def table_of(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    tensors = load_file(folder / "model.safetensors")
    return tensors, next(name for name in tensors if name.endswith("embed_positions.weight"))


def put_sinusoid(folder: Path, config: dict[str, Any], *, dtype: torch.dtype = torch.float32) -> None:
    """Makes the stored table what the reference begins with; `create` has filled it at random."""
    fresh = v4(reference_models.fresh_parameters, "RoFormerModel", config)
    tensors, name = table_of(folder)
    tensors[name] = fresh["encoder.embed_positions.weight"].to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("positions", [24, 1536])
def test_new_tables_are_the_reference_s(positions: int) -> None:
    config = TINY | {"max_position_embeddings": positions}
    expected = v4(reference_models.fresh_parameters, "RoFormerModel", config)["encoder.embed_positions.weight"]
    model = RoFormerModel(RoFormerModel.config_class(**config))
    assert_close(model.state_dict()["encoder.embed_positions.weight"], expected, "table", tolerance=1e-7)
    assert not model.encoder.embed_positions.weight.requires_grad


def test_a_file_without_the_table_gets_the_sinusoid(tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RoFormerModel", TINY)
    tensors, name = table_of(tmp_path)
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, info = RoFormerModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == []
    assert model.new_parameters == ()
    with torch.no_grad():
        expected = v4(reference_models.forward, str(tmp_path), "RoFormerModel", RIGHT)
        assert_same(dict(model(**RIGHT).items()), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sequences_may_be_longer_than_the_table(dtype: torch.dtype, tmp_path: Path) -> None:
    """As if the table had been that long from the start."""
    short, long = tmp_path / "short", tmp_path / "long"
    for folder, positions in ((short, 24), (long, 64)):
        config = NARROW | {"max_position_embeddings": positions, "rotary_value": True}
        v4(reference_models.create, str(folder), "RoFormerModel", config)
        put_sinusoid(folder, config)
    tensors, name = table_of(short)
    rest, _ = table_of(long)
    save_file(rest | {name: tensors[name].to(dtype)}, short / "model.safetensors", metadata={"format": "pt"})

    ids = random_ids(2, 64)
    expected = v4(reference_models.forward, str(long), "RoFormerModel", {"input_ids": ids})["last_hidden_state"]
    model = RoFormerModel.from_pretrained(short)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    with torch.no_grad():
        assert_close(model(ids).last_hidden_state, expected, "padded", tolerance=tolerance)
        packed = model.forward_packed(TokenBatch.from_sequences(ids.tolist())).last_hidden_state
        assert_close(packed.view(expected.shape), expected, "packed", tolerance=tolerance)
    assert model.config.max_tokens == 24


def test_a_decoder_goes_on_beyond_the_table(tmp_path: Path) -> None:
    config = DECODER | {"max_position_embeddings": 24}
    v4(reference_models.create, str(tmp_path), "RoFormerForCausalLM", config)
    put_sinusoid(tmp_path, config)
    model = RoFormerForCausalLM.from_pretrained(tmp_path)
    ids = random_ids(2, 30)
    with torch.no_grad():
        whole = model(ids).logits
        past = model(ids[:, :20]).past_key_values
        assert_close(model(ids[:, 20:], past_key_values=past).logits, whole[:, 20:], "logits")


def test_a_table_that_is_not_the_sinusoid_ends(tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RoFormerModel", TINY)  # at random, as if it had been trained
    model = RoFormerModel.from_pretrained(tmp_path)
    for too_long in (
        lambda: model(random_ids(1, 25)),
        lambda: model.forward_packed(TokenBatch.from_sequences([[5] * 25])),
    ):
        with pytest.raises(ValueError, match=r"at most 24 tokens, because .* not the sinusoid .*; found one of 25"):
            too_long()


# -- configurations and arguments ------------------------------------------------------------------------------


def test_arguments_by_position() -> None:
    torch.manual_seed(0)
    model = RoFormerModel(RoFormerModel.config_class(**TINY)).eval()
    ids, mask = RIGHT["input_ids"], RIGHT["attention_mask"]
    types, heads = TYPES["token_type_ids"], random(4)
    expected = model(ids, attention_mask=mask, token_type_ids=types, head_mask=heads).last_hidden_state
    assert torch.equal(model(ids, mask, types, heads).last_hidden_state, expected)
    with pytest.raises(TypeError, match="given twice, by position and by name: attention_mask"):
        model(ids, mask, attention_mask=mask)
    with pytest.raises(TypeError, match="expected at most 13 arguments; found 14"):
        model(*[None] * 14)
    with pytest.raises(TypeError, match="position_ids"):
        model(ids, position_ids=ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 20}, "hidden_size: expected an even number for each of 4 heads.*found 20, 5 for each"),
        ({"hidden_size": 30}, "hidden_size: expected a multiple of num_attention_heads 4; found 30"),
        ({"summary_type": "attn"}, "summary_type: expected one of last, first, mean, cls_index; found 'attn'"),
        ({"summary_use_proj": True, "summary_proj_to_labels": True}, "summary_proj_to_labels: expected .*found 2"),
    ],
)
def test_configurations_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoFormerForMultipleChoice(RoFormerModel.config_class(**TINY | fields))


def test_the_embedding_size_is_the_hidden_size_unless_given() -> None:
    config = RoFormerModel.config_class(hidden_size=64)
    assert config.embedding_size == 64
    assert config.to_dict()["embedding_size"] == 64
    assert RoFormerModel.config_class(embedding_size=32).embedding_size == 32
