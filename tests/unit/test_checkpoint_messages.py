"""What a user is told when weights and model do not fit, and what happens where they need not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import load_config, load_model
from models.errors import CheckpointError, ConfigError, ModelError, ModelNotFound, UnknownFamily
from models.roberta import (
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)

TINY: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved sequence classifier with two labels."""
    RobertaForSequenceClassification(RobertaConfig(**TINY)).save_pretrained(tmp_path)
    return tmp_path


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_missing_encoder_parameter_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.pop("roberta.encoder.layer.1.output.dense.bias"))
    with pytest.raises(CheckpointError, match=r"missing: roberta\.encoder\.layer\.1\.output\.dense\.bias$"):
        load_model(folder)


def test_many_missing_parameters_are_counted(folder: Path) -> None:
    change_config(folder, num_hidden_layers=4)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert "roberta.encoder.layer.2.attention.output.LayerNorm.bias, " in str(caught.value)
    assert "... (32 in all)" in str(caught.value)


def test_a_misspelt_parameter_is_named_with_what_is_there_instead(folder: Path) -> None:
    change_weights(
        folder, lambda t: t.update({"roberta.encoder.layer.0.mlp": t.pop("roberta.encoder.layer.0.output.dense.bias")})
    )
    with pytest.raises(
        CheckpointError, match=r"missing: .*output\.dense\.bias\. not ours: roberta\.encoder\.layer\.0\.mlp"
    ):
        load_model(folder)


def test_half_a_head_is_refused(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.pop("classifier.out_proj.bias"))
    with pytest.raises(CheckpointError, match=r"missing: classifier\.out_proj\.bias"):
        load_model(folder)


def test_a_new_head_is_initialised_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_weights(
        folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("classifier.")]
    )
    with caplog.at_level(logging.WARNING, logger="models"):
        model = load_model(folder)
    assert "initialised at random, train before use: classifier.dense.bias, " in caplog.text
    assert sorted(model.new_parameters)[0] == "classifier.dense.bias"
    assert model.classifier.dense.weight.std() > 0
    assert model.classifier.dense.bias.abs().max() == 0
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_unused_parameters_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="models"):
        load_model(folder, task="encoder")
    assert "not used by this model: classifier.dense.bias" in caplog.text


def test_an_encoder_has_a_pooler_only_if_the_file_has_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="models"):
        assert load_model(folder, task="encoder").pooler is None
    assert not caplog.records
    assert RobertaModel.from_pretrained(folder).pooler is not None
    RobertaModel(RobertaConfig(**TINY)).save_pretrained(folder)
    assert load_model(folder).pooler is not None


def test_a_misshapen_parameter_is_named_with_both_shapes(folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"classifier\.out_proj\.weight \(\[2, 8\] in the file, \[5, 8\] in the model\)"
    ) as refusal:
        load_model(folder, num_labels=5)
    # In a note, which a Python trace shows and a command's message does not: who runs a job cannot pass it.
    assert "ignore_mismatched_sizes" not in str(refusal.value)
    assert refusal.value.__notes__ == ["For a new head pass ignore_mismatched_sizes=True."]


def test_a_misshapen_head_can_be_replaced(folder: Path) -> None:
    model, found = RobertaForSequenceClassification.from_pretrained(
        folder, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model(torch.tensor([[0, 5, 2]])).logits.shape == (1, 5)
    assert found["mismatched_keys"] == [
        ("classifier.out_proj.weight", (2, 8), (5, 8)),
        ("classifier.out_proj.bias", (2,), (5,)),
    ]
    assert found["missing_keys"] == found["unexpected_keys"] == []


def test_cross_attention_can_be_new(folder: Path) -> None:
    model = RobertaForCausalLM.from_pretrained(folder, is_decoder=True, add_cross_attention=True)
    assert "roberta.encoder.layer.0.crossattention.self.query.weight" in model.new_parameters


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the weights cannot be read"):
        load_model(folder)


def test_a_pickle_with_code_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": print}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: the weights cannot be read"):
        load_model(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    load_model(folder).save_pretrained(folder, max_shard_size=2000)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelNotFound, match=f"expected {shard.name}, found config.json, "):
        load_model(folder)


def test_saving_again_leaves_no_old_shards(folder: Path) -> None:
    model = load_model(folder)
    model.save_pretrained(folder, max_shard_size=2000)
    assert not (folder / "model.safetensors").exists()
    model.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_an_unknown_size_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="max_shard_size: expected a number of bytes"):
        load_model(folder).save_pretrained(folder, max_shard_size="many")


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (
            lambda f: (f / "model.safetensors").unlink(),
            ModelNotFound,
            "expected weights, one of model.safetensors, pytorch_model.bin, .*; found config.json",
        ),
        (lambda f: (f / "config.json").unlink(), ModelNotFound, "expected config.json, found model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), ConfigError, "config.json: expected JSON"),
        (
            lambda f: (f / "config.json").write_text("[]"),
            ConfigError,
            "config.json: expected a JSON object, found a list",
        ),
        (
            lambda f: change_config(f, model_type="gpt2"),
            UnknownFamily,
            "model_type: expected one of bert, camembert, roberta, .*found 'gpt2'",
        ),
        (lambda f: change_config(f, problem_type="guess"), ConfigError, "problem_type: expected one of regression"),
        (
            lambda f: change_config(f, num_attention_heads=3),
            ConfigError,
            "hidden_size: expected a multiple of num_attention_heads 3; found 8",
        ),
    ],
)
def test_a_wrong_folder_is_explained(
    prepare: Callable[[Path], object], error: type[Exception], message: str, folder: Path
) -> None:
    prepare(folder)
    with pytest.raises(error, match=message):
        load_model(folder)


def test_what_is_neither_folder_nor_hub_id_is_refused() -> None:
    with pytest.raises(ModelNotFound, match="no such folder, and not a Hub id"):
        load_config("/no/such/folder")


def test_an_override_that_is_no_field_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="has no field 'num_label'; did you mean 'num_labels'"):
        load_model(folder, num_label=3)


def test_a_task_that_the_family_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"task: roberta has .*; found 'token-classifcation'; did you mean 'token-class"
    ):
        load_model(folder, task="token-classifcation")


def test_a_class_refuses_another_family(folder: Path) -> None:
    change_config(folder, model_type="bert")
    with pytest.raises(ModelError, match="RobertaConfig reads roberta, xlm-roberta, camembert; found 'bert'"):
        RobertaModel.from_pretrained(folder)


def test_config_given_wins_over_the_folder_s_and_is_not_changed(folder: Path) -> None:
    config = RobertaConfig(**TINY, id2label={0: "no", 1: "yes"})
    model = RobertaForSequenceClassification.from_pretrained(folder, config=config, hidden_dropout_prob=0.5)
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.hidden_dropout_prob == 0.5
    assert config.hidden_dropout_prob == 0.1


def test_new_vocabulary_rows_are_added_at_the_end() -> None:
    model = RobertaForMaskedLM(RobertaConfig(**TINY)).eval()
    ids = torch.tensor([[0, 5, 6, 2]])
    before = model(ids).logits
    assert model.resize_token_embeddings(15, pad_to_multiple_of=8).num_embeddings == 16
    after = model(ids).logits
    torch.testing.assert_close(after[..., :13], before)
    assert model.config.vocab_size == after.shape[-1] == 16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.lm_head.bias is model.lm_head.decoder.bias
    assert model.resize_token_embeddings(10).num_embeddings == 10
    assert model(ids).logits.shape == (1, 4, 10)


def test_untied_output_embeddings_are_resized_too() -> None:
    model = RobertaForMaskedLM(RobertaConfig(**TINY, tie_word_embeddings=False))
    model.resize_token_embeddings(20)
    assert model(torch.tensor([[0, 19]])).logits.shape == (1, 2, 20)


def test_parameters_are_counted_once() -> None:
    model = RobertaForMaskedLM(RobertaConfig(**TINY))
    total = sum(parameter.numel() for parameter in model.parameters())
    embeddings = (13 + 20 + 2) * 8
    assert model.num_parameters() == total
    assert model.num_parameters(exclude_embeddings=True) == total - embeddings


def test_new_models_are_initialised_by_the_book() -> None:
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(RobertaConfig(**TINY, initializer_range=0.5))
    embeddings = model.roberta.embeddings
    assert embeddings.word_embeddings.weight[1].abs().max() == 0
    assert embeddings.position_embeddings.weight[1].abs().max() == 0
    assert 0.4 < embeddings.word_embeddings.weight.std() < 0.6
    assert 0.4 < model.roberta.encoder.layer[0].intermediate.dense.weight.std() < 0.6
    assert 0.3 < model.classifier.dense.weight.std() < 0.7
    assert model.classifier.dense.bias.abs().max() == 0
    assert torch.equal(embeddings.LayerNorm.weight, torch.ones(8))


def test_saved_weights_may_be_read_by_whom_other_files_may(tmp_path: Path) -> None:
    RobertaModel(RobertaConfig(**TINY)).save_pretrained(tmp_path)
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
