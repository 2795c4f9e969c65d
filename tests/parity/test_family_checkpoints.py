"""Checkpoints of the families beside RoBERTa: which value of a file ends up where, and which class reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import models.bert
import models.rocbert
import models.roformer
from models import load_config, load_model
from models.modeling import PreTrainedModel
from models.registry import FAMILIES
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
CONFIGS = {
    "RoFormer": TINY | {"embedding_size": 12},
    "RoCBert": TINY
    | {
        "shape_vocab_size": 13,
        "shape_embed_dim": 6,
        "pronunciation_vocab_size": 7,
        "pronunciation_embed_dim": 4,
    },
    "Bert": TINY,
}
PACKAGES = {"RoFormer": models.roformer, "RoCBert": models.rocbert, "Bert": models.bert}
PREFIXES = {"RoFormer": "roformer", "RoCBert": "roc_bert", "Bert": "bert"}
INPUTS = {"input_ids": torch.arange(3, 15).view(2, 6)}
BIAS = torch.full((31,), 1.0)
Change = Callable[[dict[str, Tensor]], None]

families = pytest.mark.parametrize("family", ["RoFormer", "RoCBert", "Bert"])


def class_of(architecture: str) -> type[PreTrainedModel]:
    family = next(name for name in CONFIGS if architecture.startswith(name))
    found: type[PreTrainedModel] = getattr(PACKAGES[family], architecture)
    return found


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
    prefix = next(iter(tensors)).split(".")[0]
    tensors[f"{prefix}.embeddings.position_ids"] = torch.arange(20)[None]


def another_decoder_weight(tensors: dict[str, Tensor]) -> None:
    tensors["cls.predictions.decoder.weight"] = torch.ones_like(
        next(tensor for name, tensor in tensors.items() if name.endswith("word_embeddings.weight"))
    )


def two_biases(tensors: dict[str, Tensor]) -> None:
    tensors["cls.predictions.bias"] = BIAS.clone()
    tensors["cls.predictions.decoder.bias"] = 2 * BIAS


def only_bias(tensors: dict[str, Tensor]) -> None:
    tensors["cls.predictions.bias"] = BIAS.clone()
    tensors.pop("cls.predictions.decoder.bias", None)


def only_decoder_bias(tensors: dict[str, Tensor]) -> None:
    tensors.pop("cls.predictions.bias")
    tensors["cls.predictions.decoder.bias"] = 2 * BIAS


@families
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(
    "change", [old_names, another_decoder_weight, two_biases, only_bias], ids=lambda change: change.__name__
)
def test_odd_files_fill_the_same_parameters(family: str, change: Change, tie: bool, tmp_path: Path) -> None:
    architecture = f"{family}ForMaskedLM"
    v4(reference_models.create, str(tmp_path), architecture, CONFIGS[family] | {"tie_word_embeddings": tie})
    change_weights(tmp_path, change)
    expected = v4(reference_models.loaded_parameters, str(tmp_path), architecture)
    if family == "RoCBert" and change is two_biases:  # we follow v5
        expected["cls.predictions.bias"] = expected["cls.predictions.decoder.bias"] = 2 * BIAS
    found = class_of(architecture).from_pretrained(tmp_path).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor, name, tolerance=0.0)


@families
@pytest.mark.parametrize("tie", [True, False])
def test_either_name_of_the_bias_will_do(family: str, tie: bool, tmp_path: Path) -> None:
    """The older reference fails on one of them, the newer one begins at zero with the other."""
    architecture = f"{family}ForMaskedLM"
    v4(reference_models.create, str(tmp_path), architecture, CONFIGS[family] | {"tie_word_embeddings": tie})
    change_weights(tmp_path, only_decoder_bias)
    model = class_of(architecture).from_pretrained(tmp_path)
    assert model.new_parameters == ()
    assert torch.equal(model.get_output_embeddings().bias, 2 * BIAS)


@families
@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ("ForMaskedLM", "Model"),
        ("Model", "ForMultipleChoice"),
        ("Model", "ForTokenClassification"),
        ("ForMaskedLM", "ForSequenceClassification"),
        ("ForSequenceClassification", "ForMaskedLM"),
    ],
)
def test_the_encoder_moves_between_heads(family: str, saved: str, loaded: str, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), f"{family}{saved}", CONFIGS[family])
    expected = v4(reference_models.forward, str(tmp_path), f"{family}Model", INPUTS)
    model = class_of(f"{family}{loaded}").from_pretrained(tmp_path)
    with torch.no_grad():
        found = model.base_model(**INPUTS)
    assert_close(found.last_hidden_state, expected["last_hidden_state"], "last_hidden_state")
    assert all(f"{PREFIXES[family]}.encoder" not in name for name in model.new_parameters)


@pytest.mark.parametrize("base", ["RoFormerModel", "RoFormerForMaskedLM"])
def test_half_an_encoder_is_refused(base: str, tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), base, CONFIGS["RoFormer"])

    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if "embeddings_project" in name]:
            del tensors[name]

    change_weights(tmp_path, drop)
    with pytest.raises(models.errors.CheckpointError, match=r"missing: .*embeddings_project\.bias"):
        class_of(base).from_pretrained(tmp_path)


def test_a_masked_language_model_begins_pretraining(tmp_path: Path) -> None:
    v4(reference_models.create, str(tmp_path), "BertForMaskedLM", TINY)
    model = models.bert.BertForPreTraining.from_pretrained(tmp_path)
    assert {name.rpartition(".")[0] for name in model.new_parameters} == {"bert.pooler.dense", "cls.seq_relationship"}


ARCHITECTURES = [
    name
    for family in FAMILIES.values()
    for name in (model_class.__name__ for model_class in family.models.values())
    if not name.startswith("Roberta")
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("version", ["v4", "v5"])
def test_files_of_both_versions_load_as_what_they_are(architecture: str, version: str, tmp_path: Path) -> None:
    config = next(fields for family, fields in CONFIGS.items() if architecture.startswith(family))
    if architecture.endswith(("CausalLM", "LMHeadModel")):
        config = config | {"is_decoder": True}
    inputs: dict[str, Any] = {"input_ids": INPUTS["input_ids"][None]} if "Choice" in architecture else INPUTS
    if version == "v4":
        v4(reference_models.create, str(tmp_path), architecture, config)
    else:
        reference_models.create(str(tmp_path), architecture, config)
    expected = v4(reference_models.forward, str(tmp_path), architecture, inputs)
    model = load_model(tmp_path)
    assert type(model).__name__ == architecture
    assert model.new_parameters == ()
    with torch.no_grad():
        assert_same(reference_models.as_plain(model(**inputs)), expected)


@families
@pytest.mark.parametrize("given", [True, False])
def test_fields_of_a_config_are_the_reference_s(family: str, given: bool, tmp_path: Path) -> None:
    fields = CONFIGS[family] if given else {}
    config = getattr(PACKAGES[family], f"{family}Config")(**fields)
    expected = v4(reference_models.config_fields, f"{family}Config", fields)
    compared = expected.keys() & config.to_dict().keys() - {"dtype", "transformers_version"}
    assert len(compared) > 20
    assert {name: config.to_dict()[name] for name in compared} == {name: expected[name] for name in compared}
    config.save_pretrained(tmp_path)
    assert load_config(tmp_path) == config
