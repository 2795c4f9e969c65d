"""Every TF* and Flax* class of RoBERTa and RoFormer: its weights fill the torch class of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import models.roberta
import models.roformer
from models.modeling import PreTrainedModel
from tests.support.legacy_files import as_flax, as_keras, write_h5, write_msgpack

TINY: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
}
MODULES: dict[str, Any] = {"Roberta": models.roberta, "RoFormer": models.roformer}
TASKS = [
    "Model",
    "ForCausalLM",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
]
NO_DIFFERENCES = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}


def make(family: str, task: str, **fields: Any) -> PreTrainedModel:
    """A model of a class, of which all weights are random, also those that begin as zeros and ones."""
    config = getattr(MODULES[family], f"{family}Config")(**TINY, is_decoder=task == "ForCausalLM", **fields)
    model = getattr(MODULES[family], f"{family}{task}")(config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "embed_positions" not in name:  # Flax computes it
            torch.nn.init.normal_(parameter)
    return model


def check(model: PreTrainedModel, folder: Path, framework: str) -> None:
    model.config.save_pretrained(folder)
    read, found = type(model).from_pretrained(folder, output_loading_info=True, **{f"from_{framework}": True})
    assert found == NO_DIFFERENCES
    assert read.new_parameters == ()
    expected = model.state_dict()
    assert read.state_dict().keys() == expected.keys()
    for name, values in read.state_dict().items():
        assert torch.equal(values, expected[name]), name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["Roberta", "RoFormer"])
def test_tensorflow(family: str, task: str, tmp_path: Path) -> None:
    model = make(family, task)
    name = {"Roberta": "roberta", "RoFormer": "ro_former"}[family]
    write_h5(tmp_path / "tf_model.h5", as_keras(model, f"tf_{name}_for_something_3"))
    check(model, tmp_path, "tf")


@pytest.mark.parametrize(
    ("family", "task"),
    [(family, task) for family in MODULES for task in TASKS if (family, task) != ("RoFormer", "ForCausalLM")],
)
def test_flax(family: str, task: str, tmp_path: Path) -> None:
    model = make(family, task)
    write_msgpack(tmp_path / "flax_model.msgpack", as_flax(model))
    check(model, tmp_path, "flax")


@pytest.mark.parametrize("family", ["Roberta", "RoFormer"])
def test_cross_attention(family: str, tmp_path: Path) -> None:
    model = make(family, "ForCausalLM", add_cross_attention=True)
    write_h5(tmp_path / "tf_model.h5", as_keras(model, "tf_model"))
    check(model, tmp_path, "tf")


def test_a_roformer_with_a_projection(tmp_path: Path) -> None:
    model = make("RoFormer", "ForMaskedLM", embedding_size=12)
    write_h5(tmp_path / "tf_model.h5", as_keras(model, "tf_ro_former_for_masked_lm"))
    check(model, tmp_path, "tf")
