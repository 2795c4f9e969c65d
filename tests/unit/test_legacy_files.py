"""Files of TensorFlow and Flax in every style, into classes with and without a head."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models import load_model
from models.errors import CheckpointError, ModelNotFound
from models.modeling import PreTrainedModel
from models.roberta import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from tests.support import legacy_files
from tests.support.legacy_files import FIXTURES, read_h5, read_msgpack, write_h5, write_h5_shard, write_msgpack

NO_DIFFERENCES = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the config that all RoBERTa fixtures share, and no weights."""
    shutil.copy(FIXTURES / "TFRobertaModel" / "config.json", tmp_path)
    return tmp_path


def fixture(name: str) -> Path:
    return FIXTURES / name


def keras_arrays(name: str = "TFRobertaModel") -> dict[str, Any]:
    return read_h5(fixture(name) / "tf_model.h5")


def flax_arrays(name: str = "FlaxRobertaModel") -> dict[str, Tensor]:
    return read_msgpack(fixture(name) / "flax_model.msgpack")


def without_model_name(arrays: dict[str, Any]) -> dict[str, Any]:
    """Names as in shards and safetensors: what follows `<layer>/<model>/`."""
    return {name.split("/", maxsplit=2)[2]: values for name, values in arrays.items()}


def masked_lm_arrays() -> dict[str, Any]:
    """A TensorFlow language model: the encoder's arrays, a head's, and in the head's group the embeddings again."""
    model = "tf_roberta_for_masked_lm_1"
    encoder = {name.replace("tf_roberta_model", model): values for name, values in keras_arrays().items()}
    generator = np.random.default_rng(0)
    shapes = {"bias": (120,), "dense/kernel": (32, 32), "dense/bias": (32,), "layer_norm/gamma": (32,)}
    shapes["layer_norm/beta"] = (32,)
    head = {
        f"lm_head/{model}/lm_head/{name}:0": generator.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    repeated = {
        name.replace("roberta/", "lm_head/", 1): np.zeros_like(values)  # told from the right ones
        for name, values in encoder.items()
        if "/embeddings/" in name
    }
    return repeated | encoder | head


def assert_same_weights(model: PreTrainedModel, other: PreTrainedModel) -> None:
    expected = other.state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


# -- one model in every style ----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["variable", "fixed", "split"])
def test_lists_of_names_may_be_kept_in_any_way(style: str, folder: Path) -> None:
    write_h5(folder / "tf_model.h5", keras_arrays(), style=style)
    model, found = RobertaModel.from_pretrained(folder, output_loading_info=True)
    assert found == NO_DIFFERENCES
    assert_same_weights(model, RobertaModel.from_pretrained(fixture("TFRobertaModel")))


def keras_shards(folder: Path) -> None:
    arrays = without_model_name(keras_arrays())
    names = list(arrays)
    for number, part in enumerate(([], names[::2], names[1::2]), start=1):  # the first shard is empty
        write_h5_shard(folder / f"tf_model-0000{number}-of-00003.h5", {name: arrays[name] for name in part})
    shard_of = {f"tf_roberta_model/{name}": f"tf_model-0000{2 + i % 2}-of-00003.h5" for i, name in enumerate(names)}
    legacy_files.write_index(folder / "tf_model.h5.index.json", shard_of)


def keras_safetensors(folder: Path) -> None:
    arrays = {name: torch.from_numpy(values) for name, values in without_model_name(keras_arrays()).items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "tf"})


def keras_safetensors_shards(folder: Path) -> None:
    arrays = {name: torch.from_numpy(values) for name, values in without_model_name(keras_arrays()).items()}
    shard_of = {}
    for number, names in enumerate((list(arrays)[::2], list(arrays)[1::2]), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: arrays[name] for name in names}, folder / shard, metadata={"format": "tf"})
        shard_of |= {f"tf_roberta_model/{name}": shard for name in names}
    legacy_files.write_index(folder / "model.safetensors.index.json", shard_of)


def big_endian_doubles(folder: Path) -> None:
    arrays = {name: values.astype(">f8") for name, values in keras_arrays().items()}
    write_h5(folder / "tf_model.h5", arrays)


@pytest.mark.parametrize("write", [keras_shards, keras_safetensors, keras_safetensors_shards, big_endian_doubles])
def test_tensorflow_weights_in_other_files(write: Callable[[Path], None], folder: Path) -> None:
    write(folder)
    model, found = RobertaModel.from_pretrained(folder, from_tf=True, output_loading_info=True)
    assert found == NO_DIFFERENCES
    assert_same_weights(model, RobertaModel.from_pretrained(fixture("TFRobertaModel")))


def flax_chunks(folder: Path) -> None:
    write_msgpack(folder / "flax_model.msgpack", flax_arrays(), chunk=100)  # more than ten of some


def flax_shards(folder: Path) -> None:
    arrays = flax_arrays()
    names = list(arrays)
    for number, part in enumerate(([], names[::2], names[1::2]), start=1):  # the first shard is empty
        write_msgpack(folder / f"flax_model-0000{number}-of-00003.msgpack", {name: arrays[name] for name in part})
    shard_of = {name: f"flax_model-0000{2 + i % 2}-of-00003.msgpack" for i, name in enumerate(names)}
    legacy_files.write_index(folder / "flax_model.msgpack.index.json", shard_of)


def flax_safetensors(folder: Path) -> None:
    arrays = {name.replace("/", "."): values for name, values in flax_arrays().items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "flax"})


@pytest.mark.parametrize("write", [flax_chunks, flax_shards, flax_safetensors])
def test_flax_weights_in_other_files(write: Callable[[Path], None], folder: Path) -> None:
    write(folder)
    model, found = RobertaModel.from_pretrained(folder, from_flax=True, output_loading_info=True)
    assert found == NO_DIFFERENCES
    assert_same_weights(model, RobertaModel.from_pretrained(fixture("FlaxRobertaModel")))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32_unless_asked(half: torch.dtype, folder: Path) -> None:
    arrays = {name: values.to(half) for name, values in flax_arrays().items()}
    write_msgpack(folder / "flax_model.msgpack", arrays)
    model = RobertaModel.from_pretrained(folder)
    assert model.dtype == torch.float32
    words = arrays["embeddings/word_embeddings/embedding"]
    assert torch.equal(model.embeddings.word_embeddings.weight, words.float())
    assert RobertaModel.from_pretrained(folder, dtype="auto").dtype == half
    assert RobertaModel.from_pretrained(folder, dtype=torch.bfloat16).dtype == torch.bfloat16


# -- heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "prefix"), [("TFRobertaModel", "roberta."), ("FlaxRobertaModel", "")])
def test_a_base_file_fills_the_encoder_of_a_class_with_a_head(
    name: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = RobertaModel.from_pretrained(fixture(name), add_pooling_layer=False)
    with caplog.at_level(logging.WARNING, logger="models"):
        model, found = RobertaForTokenClassification.from_pretrained(fixture(name), output_loading_info=True)
    assert_same_weights(model.roberta, base)
    assert found["missing_keys"] == ["classifier.bias", "classifier.weight"]
    assert found["unexpected_keys"] == [f"{prefix}pooler.dense.bias", f"{prefix}pooler.dense.weight"]
    assert "initialised at random, train before use: classifier.bias, classifier.weight" in caplog.text


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("TFRobertaForSequenceClassification", RobertaForSequenceClassification),
        ("FlaxRobertaForMaskedLM", RobertaForMaskedLM),
        ("FlaxRobertaForMaskedLM__sharded", RobertaForMaskedLM),
    ],
)
def test_a_file_with_a_head_fills_the_base_class(name: str, model_class: type[PreTrainedModel]) -> None:
    whole = model_class.from_pretrained(fixture(name))
    model, found = RobertaModel.from_pretrained(fixture(name), add_pooling_layer=False, output_loading_info=True)
    assert_same_weights(model, whole.base_model)
    assert found["missing_keys"] == []
    head = {key for key in whole.state_dict() if not key.startswith("roberta.")}
    assert set(found["unexpected_keys"]) == head - {"lm_head.decoder.weight", "lm_head.decoder.bias"}


def test_another_number_of_labels_is_a_new_head_only_if_asked() -> None:
    folder = fixture("TFRobertaForSequenceClassification")
    with pytest.raises(CheckpointError, match=r"classifier\.out_proj\.weight \(\[5, 32\] in the file, \[3, 32\]"):
        RobertaForSequenceClassification.from_pretrained(folder, num_labels=3)
    model, found = RobertaForSequenceClassification.from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.classifier.out_proj.weight.shape == (3, 32)
    assert [name for name, _, _ in found["mismatched_keys"]] == [
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    ]


def test_repeated_embeddings_do_not_count(folder: Path) -> None:
    write_h5(folder / "tf_model.h5", masked_lm_arrays())
    model, found = RobertaForMaskedLM.from_pretrained(folder, output_loading_info=True)
    base = RobertaModel.from_pretrained(fixture("TFRobertaModel"), add_pooling_layer=False)
    assert_same_weights(model.roberta, base)
    assert found["missing_keys"] == []
    assert found["unexpected_keys"] == ["roberta.pooler.dense.bias", "roberta.pooler.dense.weight"]


def test_tensorflow_language_models_end_in_the_input_embeddings_tied_or_not(folder: Path) -> None:
    write_h5(folder / "tf_model.h5", masked_lm_arrays())
    ids = torch.arange(3, 15)[None]
    tied = RobertaForMaskedLM.from_pretrained(folder)
    untied = RobertaForMaskedLM.from_pretrained(folder, tie_word_embeddings=False)
    words = untied.roberta.embeddings.word_embeddings.weight
    assert untied.lm_head.decoder.weight is not words
    assert untied.lm_head.decoder.weight.data_ptr() != words.data_ptr()
    assert torch.equal(untied(ids).logits, tied(ids).logits)
    _, found = RobertaModel.from_pretrained(folder, output_loading_info=True)
    assert "lm_head.decoder.weight" not in found["unexpected_keys"]  # since no file has it


def test_an_untied_flax_head_has_a_matrix_of_its_own(folder: Path) -> None:
    arrays = read_msgpack(fixture("FlaxRobertaForMaskedLM") / "flax_model.msgpack")
    arrays["lm_head/decoder/kernel"] = torch.arange(32.0 * 120).view(32, 120)
    write_msgpack(folder / "flax_model.msgpack", arrays)
    model = RobertaForMaskedLM.from_pretrained(folder, tie_word_embeddings=False)
    assert torch.equal(model.lm_head.decoder.weight, arrays["lm_head/decoder/kernel"].T)
    assert torch.equal(model.lm_head.decoder.bias, arrays["lm_head/bias"])
    del arrays["lm_head/decoder/kernel"]
    write_msgpack(folder / "flax_model.msgpack", arrays)
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.decoder\.weight"):
        RobertaForMaskedLM.from_pretrained(folder, tie_word_embeddings=False)


def test_a_missing_array_is_named(folder: Path) -> None:
    arrays = keras_arrays()
    del arrays["roberta/tf_roberta_model/roberta/encoder/layer_._1/output/dense/kernel:0"]
    write_h5(folder / "tf_model.h5", arrays)
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layer\.1\.output\.dense\.weight$"):
        RobertaModel.from_pretrained(folder)


# -- which file is read ----------------------------------------------------------------------------------------


def test_a_framework_is_read_if_asked_for_or_alone(folder: Path) -> None:
    shutil.copy(fixture("TFRobertaModel") / "tf_model.h5", folder)
    shutil.copy(fixture("FlaxRobertaModel") / "flax_model.msgpack", folder)
    torch_model = RobertaModel(RobertaConfig.from_pretrained(folder))
    save_file(torch_model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    tf_model = RobertaModel.from_pretrained(fixture("TFRobertaModel"))
    assert_same_weights(RobertaModel.from_pretrained(folder), torch_model)
    assert_same_weights(RobertaModel.from_pretrained(folder, from_tf=True), tf_model)
    flax_model = RobertaModel.from_pretrained(fixture("FlaxRobertaModel"))
    assert_same_weights(RobertaModel.from_pretrained(folder, from_flax=True), flax_model)
    assert_same_weights(load_model(folder, task="encoder", from_tf=True), tf_model)
    assert_same_weights(load_model(folder, task="encoder", from_flax=True), flax_model)
    (folder / "model.safetensors").unlink()
    assert_same_weights(RobertaModel.from_pretrained(folder), tf_model)


def test_weights_of_another_framework_are_not_those_asked_for(folder: Path) -> None:
    RobertaModel(RobertaConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(ModelNotFound, match=r"expected weights of TensorFlow, one of tf_model\.h5, .* found config"):
        RobertaModel.from_pretrained(folder, from_tf=True)
    with pytest.raises(ModelNotFound, match=r"expected weights of Flax, one of flax_model\.msgpack, "):
        RobertaModel.from_pretrained(folder, from_flax=True)
    with pytest.raises(ValueError, match="expected one of from_tf and from_flax; found both"):
        RobertaModel.from_pretrained(folder, from_tf=True, from_flax=True)


def test_shards_must_hold_what_the_index_names(folder: Path) -> None:
    keras_shards(folder)
    index = folder / "tf_model.h5.index.json"
    shard_of = json.loads(index.read_text())["weight_map"]
    legacy_files.write_index(index, shard_of | {"tf_roberta_model/roberta/gate/kernel:0": "tf_model-00001-of-00003.h5"})
    with pytest.raises(CheckpointError, match=r"its shards lack tf_roberta_model/roberta/gate/kernel:0; download"):
        RobertaModel.from_pretrained(folder)
    (folder / "tf_model-00002-of-00003.h5").unlink()
    with pytest.raises(ModelNotFound, match=r"expected tf_model-00002-of-00003\.h5"):
        RobertaModel.from_pretrained(folder)


@pytest.mark.parametrize("shard_of", [{}, {"a": 7}, {"a": "../tf_model.h5"}])
def test_an_index_names_files_beside_it(shard_of: dict[str, Any], folder: Path) -> None:
    legacy_files.write_index(folder / "tf_model.h5.index.json", shard_of)
    with pytest.raises(CheckpointError, match="expected a weight_map from names to files; found "):
        RobertaModel.from_pretrained(folder)


# -- TensorFlow before Keras -----------------------------------------------------------------------------------


def graph_arrays() -> dict[str, Any]:
    """The arrays of the TensorFlow fixture as the original BERT code would have named them."""
    leaves = {"weight": "", "embeddings": ""}
    arrays = {}
    for name, values in without_model_name(keras_arrays()).items():
        *parents, leaf = name.removesuffix(":0").replace("layer_._", "layer_").split("/")
        parts = [*parents, leaves.get(leaf, leaf)]
        arrays["/".join(part for part in parts if part).replace("roberta/", "bert/")] = values
    return arrays


@pytest.mark.parametrize("stem", ["model", "bert_model"])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_checkpoint_from_before_keras(stem: str, num_shards: int, folder: Path) -> None:
    arrays = graph_arrays()
    optimiser = {"bert/pooler/dense/kernel/adam_m": np.ones((32, 32), np.float32), "global_step": np.array(7)}
    legacy_files.write_bundle(folder / f"{stem}.ckpt", arrays | optimiser, num_shards=num_shards)
    model, found = RobertaModel.from_pretrained(folder, from_tf=True, output_loading_info=True)
    assert found == NO_DIFFERENCES
    assert_same_weights(model, RobertaModel.from_pretrained(fixture("TFRobertaModel")))


def test_the_encoder_of_such_a_checkpoint_fills_a_class_with_a_head(folder: Path) -> None:
    legacy_files.write_bundle(folder / "model.ckpt", graph_arrays())
    model = RobertaForQuestionAnswering.from_pretrained(folder)
    assert model.new_parameters == ("qa_outputs.weight", "qa_outputs.bias")


def test_a_lost_data_file_is_named(folder: Path) -> None:
    legacy_files.write_bundle(folder / "model.ckpt", graph_arrays(), num_shards=2)
    (folder / "model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"model\.ckpt\.index: .*model\.ckpt\.data-00001-of-00002"):
        load_model(folder)
