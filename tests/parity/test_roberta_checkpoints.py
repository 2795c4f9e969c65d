"""Checkpoints of every make: which value of a file ends up in which parameter, as in the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import load_model
from models.modeling import PreTrainedModel
from models.roberta import (
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from tests.support import reference_models
from tests.support.model_parity import assert_close, assert_same
from tests.support.reference import v4

TINY: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
INPUTS = {"input_ids": torch.arange(3, 15).view(2, 6)}
Change = Callable[[dict[str, Tensor]], None]


def change_weights(folder: Path, change: Change) -> None:
    """Edits `model.safetensors` in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def old_names(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[new] = tensors.pop(name)
    tensors["roberta.embeddings.position_ids"] = torch.arange(20)[None]
    tensors["roberta.embeddings.token_type_ids"] = torch.zeros(1, 20, dtype=torch.int64)


def another_decoder_weight(tensors: dict[str, Tensor]) -> None:
    tensors["lm_head.decoder.weight"] = torch.ones(31, 16)


def two_biases(tensors: dict[str, Tensor]) -> None:
    tensors["lm_head.bias"] = torch.full((31,), 1.0)
    tensors["lm_head.decoder.bias"] = torch.full((31,), 2.0)


def only_bias(tensors: dict[str, Tensor]) -> None:
    tensors["lm_head.bias"] = torch.full((31,), 1.0)
    tensors.pop("lm_head.decoder.bias", None)


def only_decoder_bias(tensors: dict[str, Tensor]) -> None:
    tensors.pop("lm_head.bias")
    tensors["lm_head.decoder.bias"] = torch.full((31,), 2.0)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(
    "change",
    [old_names, another_decoder_weight, two_biases, only_bias, only_decoder_bias],
    ids=lambda change: change.__name__,
)
def test_odd_files_fill_the_same_parameters(change: Change, tie: bool, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RobertaForMaskedLM", TINY | {"tie_word_embeddings": tie})
    change_weights(tmp_path, change)
    expected = v4(reference_models.loaded_parameters, str(tmp_path), "RobertaForMaskedLM")
    found = RobertaForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor, name, tolerance=0.0)


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("RobertaForMaskedLM", RobertaModel),
        ("RobertaModel", RobertaForMultipleChoice),
        ("RobertaModel", RobertaForTokenClassification),
        ("RobertaForMaskedLM", RobertaForSequenceClassification),
    ],
)
def test_the_encoder_moves_between_heads(saved: str, loaded: type[PreTrainedModel], tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), saved, TINY)
    expected = v4(reference_models.forward, str(tmp_path), "RobertaModel", INPUTS)
    encoder = loaded.from_pretrained(tmp_path).base_model
    with torch.no_grad():
        found = encoder(**INPUTS)
    assert_close(found.last_hidden_state, expected["last_hidden_state"], "last_hidden_state")


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {}], ids=["bin", "safetensors"])
@pytest.mark.parametrize("size", ["5GB", "4KB"])
def test_every_kind_of_file_loads(options: dict[str, Any], size: str, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RobertaForMaskedLM", TINY, max_shard_size=size, **options)
    expected = v4(reference_models.forward, str(tmp_path), "RobertaForMaskedLM", INPUTS)
    with torch.no_grad():
        found = RobertaForMaskedLM.from_pretrained(tmp_path)(**INPUTS)
    assert_same(dict(found.items()), expected)
    ending = "safetensors" if not options else "bin"
    assert (len(list(tmp_path.glob(f"*.{ending}"))) > 1) == (size == "4KB")


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [("XLMRobertaForTokenClassification", "xlm-roberta"), ("CamembertForTokenClassification", "camembert")],
)
def test_relatives_of_roberta_load_and_keep_their_name(architecture: str, model_type: str, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path / "theirs"), architecture, TINY)
    expected = v4(reference_models.forward, str(tmp_path / "theirs"), architecture, INPUTS)
    model = load_model(tmp_path / "theirs")
    assert isinstance(model, RobertaForTokenClassification)
    assert model.config.model_type == model_type
    with torch.no_grad():
        assert_same(dict(model(**INPUTS).items()), expected)
    model.save_pretrained(tmp_path / "ours")
    assert model.architecture == architecture
    assert_same(v4(reference_models.forward, str(tmp_path / "ours"), architecture, INPUTS), expected)


@pytest.mark.parametrize(
    "architecture",
    ["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaForQuestionAnswering"],
)
@pytest.mark.parametrize("tie", [True, False])
def test_checkpoints_of_the_newest_version_load(architecture: str, tie: bool, tmp_path: Path) -> None:
    reference_models.create(str(tmp_path), architecture, TINY | {"tie_word_embeddings": tie})
    expected = reference_models.forward(str(tmp_path), architecture, INPUTS)
    with torch.no_grad():
        assert_same(dict(load_model(tmp_path)(**INPUTS).items()), expected)


def test_half_precision_is_read_as_float32_unless_asked(tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "RobertaModel", TINY)
    RobertaModel.from_pretrained(tmp_path, dtype="float16").save_pretrained(tmp_path)
    assert RobertaModel.from_pretrained(tmp_path).dtype == torch.float32
    assert RobertaModel.from_pretrained(tmp_path, dtype="auto").dtype == torch.float16
    assert RobertaModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    assert load_model(tmp_path).dtype == torch.float32
    assert load_model(tmp_path, dtype="float16").config.dtype == torch.float16


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("cross", [True, False])
def test_tuples_are_the_reference_s(return_dict: bool, cross: bool, tmp_path: Path) -> None:
    v4(
        reference_models.create,
        str(tmp_path),
        "RobertaModel",
        TINY | {"is_decoder": True, "add_cross_attention": cross},
    )
    inputs = INPUTS | {"output_hidden_states": True, "output_attentions": True, "return_dict": return_dict}
    if cross:
        inputs["encoder_hidden_states"] = torch.ones(2, 3, 16)
    expected = v4(reference_models.fields, str(tmp_path), "RobertaModel", inputs)
    assert reference_models.fields_of(RobertaModel.from_pretrained(tmp_path), inputs) == expected
