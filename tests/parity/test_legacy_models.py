"""Checkpoints of the TF* and Flax* classes: the torch classes give the outputs that those gave.

The files and outputs in `tests/fixtures/legacy` were written by TensorFlow and Flax themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import models.roberta
import models.roformer
from models.modeling import PreTrainedModel
from tests.support.legacy_files import FIXTURES

FAMILIES: dict[str, Any] = {"roberta": models.roberta, "roformer": models.roformer}
FOLDERS = sorted(path.parent for path in FIXTURES.glob("*/cases.json"))

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def read_cases(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cases.json").read_text(encoding="utf-8"))


def check_outputs(model: PreTrainedModel, folder: Path) -> None:
    tensors = load_file(folder / "cases.safetensors")
    for name, case in read_cases(folder)["cases"].items():
        with torch.no_grad():
            found = model(**{key: tensors[f"{name}/in/{key}"] for key in case["inputs"]}, **case["flags"])
        for key in case["outputs"]:
            field, _, layer = key.partition(".")
            output = found[field][int(layer)] if layer else found[field]
            torch.testing.assert_close(output, tensors[f"{name}/out/{key}"], atol=5e-5, rtol=1e-5)


def model_class(folder: Path) -> type[PreTrainedModel]:
    cases = read_cases(folder)
    return getattr(FAMILIES[cases["family"]], cases["torch_class"])


@each_folder
def test_outputs_are_those_of_the_framework(folder: Path) -> None:
    flag = {f"from_{read_cases(folder)['framework']}": True}
    model, found = model_class(folder).from_pretrained(folder, output_loading_info=True, **flag)
    assert found == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    assert model.new_parameters == ()
    check_outputs(model, folder)


@each_folder
def test_files_are_found_by_themselves(folder: Path) -> None:
    check_outputs(model_class(folder).from_pretrained(folder), folder)


@each_folder
def test_what_is_saved_is_what_was_read(folder: Path, tmp_path: Path) -> None:
    model_class(folder).from_pretrained(folder).save_pretrained(tmp_path)
    check_outputs(model_class(folder).from_pretrained(tmp_path), folder)
