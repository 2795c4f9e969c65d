"""What is special about RoFormer's files: the table of positions, the head's name, widths, and the original names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import CheckpointError
from models.roformer import (
    RoFormerForMaskedLM,
    RoFormerForMultipleChoice,
    RoFormerForTokenClassification,
    RoFormerModel,
)
from tests.support.legacy_files import FIXTURES, read_h5, read_msgpack, write_bundle, write_h5, write_msgpack

MASKED_LM = FIXTURES / "TFRoFormerForMaskedLM__embproj"
TOKENS = FIXTURES / "FlaxRoFormerForTokenClassification"
TABLE = "encoder/embed_positions/embeddings:0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The config of the TensorFlow language model, and no weights."""
    shutil.copy(MASKED_LM / "config.json", tmp_path)
    return tmp_path


def keras_arrays() -> dict[str, Any]:
    return read_h5(MASKED_LM / "tf_model.h5")


def test_a_table_of_positions_in_the_file_counts(folder: Path) -> None:
    arrays = keras_arrays()
    (name,) = [name for name in arrays if name.endswith(TABLE)]
    arrays[name] = np.full_like(arrays[name], 0.5)
    write_h5(folder / "tf_model.h5", arrays)
    model = RoFormerForMaskedLM.from_pretrained(folder)
    assert (model.roformer.encoder.embed_positions.weight == 0.5).all()


def test_a_table_that_the_file_lacks_is_computed(folder: Path) -> None:
    arrays = {name: values for name, values in keras_arrays().items() if not name.endswith(TABLE)}
    write_h5(folder / "tf_model.h5", arrays)
    model, found = RoFormerForMaskedLM.from_pretrained(folder, output_loading_info=True)
    whole = RoFormerForMaskedLM.from_pretrained(MASKED_LM)
    computed = model.roformer.encoder.embed_positions.weight
    torch.testing.assert_close(computed, whole.roformer.encoder.embed_positions.weight, atol=1e-6, rtol=0)
    assert found["missing_keys"] == []
    assert model.new_parameters == ()


def test_the_language_models_head_fills_no_other_class() -> None:
    model, found = RoFormerModel.from_pretrained(MASKED_LM, output_loading_info=True)
    whole = RoFormerForMaskedLM.from_pretrained(MASKED_LM)
    for name, values in whole.roformer.state_dict().items():
        assert torch.equal(model.state_dict()[name], values)
    assert found["missing_keys"] == []
    assert found["unexpected_keys"] == [
        "cls.predictions.bias",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.dense.weight",
    ]
    classifier = RoFormerForTokenClassification.from_pretrained(MASKED_LM)
    assert set(classifier.new_parameters) == {"classifier.weight", "classifier.bias"}


def test_an_untied_language_model_ends_in_the_input_embeddings() -> None:
    ids = torch.arange(3, 15)[None]
    tied = RoFormerForMaskedLM.from_pretrained(MASKED_LM)
    untied = RoFormerForMaskedLM.from_pretrained(MASKED_LM, tie_word_embeddings=False)
    assert torch.equal(untied(ids).logits, tied(ids).logits)


def test_the_summary_of_a_multiple_choice_model(tmp_path: Path) -> None:
    source = FIXTURES / "TFRoFormerForMultipleChoice"
    shutil.copy(source / "config.json", tmp_path)
    layer = "sequence_summary/tf_ro_former_for_multiple_choice/sequence_summary/summary"
    summary = {f"{layer}/kernel:0": np.eye(32, k=1, dtype=np.float32), f"{layer}/bias:0": np.ones(32, np.float32)}
    write_h5(tmp_path / "tf_model.h5", read_h5(source / "tf_model.h5") | summary)
    model, found = RoFormerForMultipleChoice.from_pretrained(
        tmp_path, summary_use_proj=True, summary_proj_to_labels=False, output_loading_info=True
    )
    assert found["missing_keys"] == found["unexpected_keys"] == []
    assert torch.equal(model.sequence_summary.summary.weight, torch.eye(32).roll(1, 0).tril(-1))


def test_flax_embeddings_are_as_wide_as_hidden_states(tmp_path: Path) -> None:
    """Flax ignores the config's `embedding_size`, so files may contradict it."""
    shutil.copy(TOKENS / "config.json", tmp_path)
    write_msgpack(tmp_path / "flax_model.msgpack", read_msgpack(TOKENS / "flax_model.msgpack"))
    with pytest.raises(CheckpointError, match=r"word_embeddings\.weight \(\[120, 32\] in the file, \[120, 20\]"):
        RoFormerForTokenClassification.from_pretrained(tmp_path, embedding_size=20)
    assert RoFormerForTokenClassification.from_pretrained(tmp_path, embedding_size=32).new_parameters == ()


def test_original_checkpoints_call_the_encoder_bert(folder: Path) -> None:
    arrays = {}
    for path, values in keras_arrays().items():
        layer, _, name = path.split("/", maxsplit=2)
        name = name.removesuffix(":0").replace("layer_._", "layer_").replace("roformer/", "bert/")
        name = name.replace("mlm___cls/predictions/bias", "cls/predictions/output_bias").replace("mlm___", "")
        name = name.removesuffix("/weight").replace("_embeddings/embeddings", "_embeddings")
        if (layer == "mlm___cls" and name.startswith("bert/")) or "embed_positions" in name:
            continue
        arrays[name] = values
    write_bundle(folder / "bert_model.ckpt", arrays | {"bert/pooler/dense/kernel": np.zeros((32, 32), np.float32)})
    model, found = RoFormerForMaskedLM.from_pretrained(folder, from_tf=True, output_loading_info=True)
    assert found["missing_keys"] == []
    assert found["unexpected_keys"] == ["pooler.dense.weight"]
    ids = torch.arange(3, 15)[None]
    expected = RoFormerForMaskedLM.from_pretrained(MASKED_LM)(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, atol=5e-5, rtol=1e-5)
