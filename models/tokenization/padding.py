"""Pads columns of token rows, and puts the columns of several rows together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.tokenization.arguments import Limits, Side, TensorType

Columns = dict[str, Any]


def collate(encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Columns, TensorType | None]:
    """Gives columns of Python lists from one or many encodings, and the kind of tensors they were in."""
    columns = dict(encoded) if isinstance(encoded, Mapping) else {k: [row[k] for row in encoded] for k in encoded[0]}
    tensor_type: TensorType | None = None
    for column in columns.values():
        first = column[0] if isinstance(column, list | tuple) and column else column
        if isinstance(first, torch.Tensor):
            tensor_type = "pt"
        elif isinstance(first, np.ndarray):
            tensor_type = "np"
    return {name: _as_list(column) for name, column in columns.items()}, tensor_type


def pad_rows(columns: Columns, main: str, limits: Limits, fill: Mapping[str, int]) -> Columns:
    """Pads the columns named in `fill` with their value, to one length; other columns stay as they are.

    Args:
        columns: lists of rows of the same lengths.
        main: the column whose rows give the lengths.
        limits: what to pad to, and on which side.
        fill: column name -> value.
    """
    lengths = [len(row) for row in columns[main]]
    length = limits.padded_length(lengths)
    if length is None:
        return columns
    return columns | {
        name: [
            _pad(row, value, length - row_length, limits.padding_side)
            for row, row_length in zip(columns[name], lengths, strict=True)
        ]
        for name, value in fill.items()
        if name in columns
    }


def _pad(row: list[int], value: int, missing: int, side: Side) -> list[int]:
    filling = [value] * missing
    return row + filling if side == "right" else filling + row


def _as_list(column: Any) -> Any:
    if isinstance(column, torch.Tensor | np.ndarray):
        return column.tolist()
    if isinstance(column, list | tuple):
        return [_as_list(part) for part in column]
    return column
