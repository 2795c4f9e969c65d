"""BERT from Keras, from Flax, and from the code that it was published with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bert import (
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
)
from models.modeling import PreTrainedModel
from tests.support.legacy_files import as_flax, as_keras, write_bundle, write_h5, write_msgpack

CLASSES = [
    BertModel,
    BertForPreTraining,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForSequenceClassification,
]
each_class = pytest.mark.parametrize("model_class", CLASSES, ids=lambda model_class: model_class.__name__)


def make(model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """A model of which all weights are random."""
    fields = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = model_class(BertConfig(**fields, intermediate_size=24, max_position_embeddings=20))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def check(model: PreTrainedModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    read, found = type(model).from_pretrained(folder, output_loading_info=True)
    assert found == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    for name, values in read.state_dict().items():
        assert torch.equal(values, model.state_dict()[name]), name


@each_class
def test_tensorflow(model_class: type[PreTrainedModel], tmp_path: Path) -> None:
    model = make(model_class)
    write_h5(tmp_path / "tf_model.h5", as_keras(model, "tf_bert_something"))
    check(model, tmp_path)


@each_class
def test_flax(model_class: type[PreTrainedModel], tmp_path: Path) -> None:
    model = make(model_class)
    write_msgpack(tmp_path / "flax_model.msgpack", as_flax(model))
    check(model, tmp_path)


def test_the_published_checkpoint(tmp_path: Path) -> None:
    model = make(BertForPreTraining)
    arrays = {}
    for name, values in model.state_dict().items():
        if ".decoder." in name:
            continue
        ours = re.sub(r"\blayer\.(\d+)", r"layer_\1", name)
        if name == "cls.predictions.bias":
            ours = "cls.predictions.output_bias"
        elif "seq_relationship" in name:  # the one matrix that has the output first
            ours = re.sub(r"(weight|bias)$", lambda end: {"weight": "output_weights"}.get(end[0], "output_bias"), name)
        elif "LayerNorm" in name:
            ours = ours.replace("weight", "gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        elif name.endswith("_embeddings.weight"):
            ours = ours.removesuffix(".weight")
        elif name.endswith(".weight"):
            ours, values = ours.replace(".weight", ".kernel"), values.T
        arrays[ours.replace(".", "/")] = values.contiguous().numpy()
    slots = {f"{name}/{slot}": values for name, values in arrays.items() for slot in ("adam_m", "adam_v")}
    write_bundle(tmp_path / "bert_model.ckpt", arrays | slots | {"global_step": np.array(10)})
    check(model, tmp_path)
