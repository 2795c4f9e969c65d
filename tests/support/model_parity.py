"""Proves that a family's models equal the reference's, from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.batch import TokenBatch
from models.modeling import PreTrainedModel
from tests.support import reference_models
from tests.support.reference import v4

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and what it is given."""

    name: str
    model_class: type[PreTrainedModel]
    config: dict[str, Any]
    inputs: dict[str, Any]
    comparable: Tensor | None = None  # bool [B, T]: rows of padding queries in a decoder mean nothing
    reference: Callable[..., Any] = v4  # runs a function of reference_models under the version that we follow

    @property
    def ordered(self) -> bool:
        """Whether outputs have their fields in the reference's order: all families follow that of v4."""
        return self.reference is v4

    @property
    def architecture(self) -> str:
        return self.model_class.__name__

    def __str__(self) -> str:
        return f"{self.architecture}-{self.name}"


def case(
    name: str, model_class: type[PreTrainedModel], config: dict[str, Any], inputs: dict[str, Any], **options: Any
) -> Case:
    return Case(name=name, model_class=model_class, config=config, inputs=inputs, **options)


def v5(function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function of reference_models in this process, under the newest version."""
    return function(*args)


def check_forward(case: Case, folder: Path) -> None:
    """A checkpoint of the reference loads here and gives the same outputs."""
    case.reference(reference_models.create, str(folder), case.architecture, case.config)
    expected = case.reference(reference_models.forward, str(folder), case.architecture, case.inputs)
    model = case.model_class.from_pretrained(folder)
    with torch.no_grad():
        found = reference_models.as_plain(model(**case.inputs))
    assert_same(found, expected, comparable=case.comparable, ordered=case.ordered)


def check_gradients(case: Case, folder: Path) -> None:
    """One backward pass gives every parameter the same gradient."""
    case.reference(reference_models.create, str(folder), case.architecture, case.config)
    expected = case.reference(reference_models.gradients, str(folder), case.architecture, case.inputs)
    found = reference_models.gradients_of(case.model_class.from_pretrained(folder), case.inputs)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, name, tolerance=GRADIENT_TOLERANCE)


def check_packed(case: Case, folder: Path, lengths: list[int]) -> None:
    """Padded rows, the same rows packed, and each row alone give the same outputs.

    The case's inputs are ids padded on the right, rows of these lengths, with a mask.
    """
    case.reference(reference_models.create, str(folder), case.architecture, case.config)
    model = case.model_class.from_pretrained(folder)
    with torch.no_grad():
        padded = model(**case.inputs)
        packed = model.forward_packed(pack(case.inputs, lengths))
        is_token = case.inputs["attention_mask"].bool()
        for name, found in packed.items():
            rows = padded[name]
            expected = rows[is_token] if rows.shape[:2] == is_token.shape else rows.reshape(found.shape)
            assert_close(found, expected, f"packed {name}")
        for row, length in enumerate(lengths):
            alone = model(**{name: _cut(value, row, length) for name, value in case.inputs.items()})
            for name in packed:
                rows = padded[name][row]
                whole = rows.shape[:1] == is_token.shape[1:]
                assert_close(alone[name][0], rows[:length] if whole else rows, f"row {row} alone: {name}")


def check_saved(case: Case, folder: Path, **save_options: Any) -> None:
    """A checkpoint saved here gives the same outputs under both versions of the reference, and here."""
    config = case.model_class.config_class(**case.config)
    torch.manual_seed(0)
    model = case.model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        expected = reference_models.as_plain(model(**case.inputs))
    model.save_pretrained(folder, **save_options)
    with torch.no_grad():
        again = reference_models.as_plain(case.model_class.from_pretrained(folder)(**case.inputs))
    assert_same(again, expected, tolerance=0.0)
    assert_same(v4(reference_models.forward, str(folder), case.architecture, case.inputs), expected)
    assert_same(reference_models.forward(str(folder), case.architecture, case.inputs), expected)


def check_decoding(case: Case, folder: Path, steps: list[dict[str, Any]]) -> None:
    """Step by step, with the cache passed on, everything is the same; the cache too."""
    case.reference(reference_models.create, str(folder), case.architecture, case.config)
    expected = case.reference(reference_models.decode, str(folder), case.architecture, steps)
    found = reference_models.decode_with(case.model_class.from_pretrained(folder), steps)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs, comparable=case.comparable, ordered=case.ordered)


def _cut(value: Any, row: int, length: int) -> Any:
    return value[row : row + 1, :length] if isinstance(value, Tensor) else value


def pack(inputs: dict[str, Any], lengths: list[int]) -> TokenBatch:
    """The rows of padded inputs without their padding."""
    is_token = inputs["attention_mask"].bool()
    known = {"input_ids", "attention_mask", "token_type_ids"}
    return TokenBatch.from_flat(
        inputs["input_ids"][is_token],
        lengths,
        device=is_token.device,
        token_type_ids=inputs["token_type_ids"][is_token] if "token_type_ids" in inputs else None,
        extras={name: x[is_token] for name, x in inputs.items() if name not in known and isinstance(x, Tensor)},
    )


def assert_same(
    found: dict[str, Any],
    expected: dict[str, Any],
    *,
    tolerance: float = TOLERANCE,
    comparable: Tensor | None = None,
    ordered: bool = True,
) -> None:
    """The same fields with the same values, in the same order unless `ordered` is False."""
    assert list(found) == list(expected) if ordered else found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, name, tolerance=tolerance, comparable=comparable)


def assert_close(
    found: Any, expected: Any, name: str, *, tolerance: float = TOLERANCE, comparable: Tensor | None = None
) -> None:
    if isinstance(expected, tuple):
        assert len(found) == len(expected), name
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{name}[{index}]", tolerance=tolerance, comparable=comparable)
        return
    assert found.shape == expected.shape, f"{name}: {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if comparable is not None and expected.shape[: comparable.dim()] == comparable.shape:
        found, expected = found[comparable], expected[comparable]
    if expected.numel() == 0:
        return
    difference = (found - expected).abs().max().item()
    both_nan = bool((found.isnan() & expected.isnan()).all())
    assert difference <= tolerance or both_nan, f"{name}: differs by {difference:.2g}, tolerance {tolerance:.0e}"
