"""Configs: defaults, labels, unknown fields, round trips, and the same files as the reference writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models import load_config
from models.errors import ConfigError
from models.roberta import RobertaConfig
from tests.support import reference_models
from tests.support.reference import v4


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_labels": 3},
        {"num_labels": 1, "problem_type": "regression"},
        {"id2label": {"0": "A", "1": "B", "2": "C"}},
        {"id2label": {0: "A", 1: "B", 2: "C"}, "num_labels": 2},
        {"label2id": {"A": 0, "B": 1, "C": 2}},
        {"id2label": {0: "A", 1: "B"}, "label2id": {"A": 0, "B": 1}},
        {"hidden_size": 30, "is_decoder": True, "add_cross_attention": True, "unheard_of": [1, 2]},
        {"torch_dtype": "float16"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_fields_are_the_reference_s(fields: dict[str, Any]) -> None:
    expected = v4(reference_models.config_fields, "RobertaConfig", fields)
    config = RobertaConfig(**fields)
    found = config.to_dict() | {"num_labels": config.num_labels}
    assert found == {name: expected[name] for name in found}


def test_unknown_fields_survive_a_round_trip(tmp_path: Path) -> None:
    config = RobertaConfig(num_labels=3, unheard_of={"a": 1}, sep_token_id=2, dtype="float16")
    config.save_pretrained(tmp_path)
    again = RobertaConfig.from_pretrained(tmp_path)
    assert again == config == load_config(tmp_path)
    assert again.unheard_of == {"a": 1}
    assert again.torch_dtype is torch.float16
    assert again.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"


def test_a_file_says_only_what_is_not_default(tmp_path: Path) -> None:
    RobertaConfig(tie_word_embeddings=False).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["tie_word_embeddings"] is False
    assert written["model_type"] == "roberta"
    assert written["hidden_size"] == 768
    assert not written.keys() & {"id2label", "problem_type", "return_dict", "is_decoder"}


def test_overrides_replace_fields(tmp_path: Path) -> None:
    RobertaConfig(id2label={0: "no", 1: "yes"}).save_pretrained(tmp_path)
    assert RobertaConfig.from_pretrained(tmp_path, num_labels=2).id2label == {0: "no", 1: "yes"}
    assert RobertaConfig.from_pretrained(tmp_path, num_labels=3).id2label[2] == "LABEL_2"
    assert RobertaConfig.from_pretrained(tmp_path, id2label={"0": "x"}).num_labels == 1
    assert RobertaConfig.from_pretrained(tmp_path, dtype="float16").dtype is torch.float16


@pytest.mark.parametrize(
    "fields",
    [
        {"problem_type": "guess"},
        {"dtype": "int8"},
        {"dtype": "flo"},
        {"model_type": "bert"},
        {"id2label": {"O": 0}},
        {"id2label": ["O"]},
    ],
)
def test_values_that_mean_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        RobertaConfig(**fields)


def test_longest_sequence() -> None:
    assert RobertaConfig(max_position_embeddings=514).max_tokens == 512
    assert RobertaConfig(max_position_embeddings=514, pad_token_id=0).max_tokens == 513
