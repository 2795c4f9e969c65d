"""Which keys a query may see, as a bias on the scores.

Legend: B batch, T query length, S key length, A heads.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_bias(
    mask: Tensor | None, *, causal: bool, query_length: int, key_length: int, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """The bias for a mask: zero where a key is seen, the most negative finite value where it is not.

    The value is finite so that a query which sees no key averages over all of them and does not become NaN.

    Args:
        mask: One of
            None: every key is there;
            [B, S]: nonzero where the key is a token and not padding;
            [B, T, S]: nonzero where the query sees the key; taken as it is, also by a causal model;
            [B, 1 or A, T, S]: the same for booleans and integers; floating-point numbers are the bias itself.
        causal: Whether a query sees only keys up to its own position; the last query is at the last key.

    Returns:
        A bias that broadcasts to [B, A, T, S]; None where every query sees every key.

    Raises:
        ValueError: the mask's shape does not fit.
    """
    if mask is not None and mask.dim() == 4 and mask.is_floating_point():
        _check_shape(mask, query_length, key_length)
        return mask.to(device, dtype)

    visible: Tensor | None = None
    if mask is not None:
        _check_shape(mask, query_length, key_length)
        visible = mask.to(device) != 0
        if mask.dim() == 2:
            visible = visible[:, None, None, :]
        elif mask.dim() == 3:
            visible = visible[:, None]
    if causal and query_length > 1 and (mask is None or mask.dim() == 2):
        positions = torch.arange(key_length, device=device)
        past = positions[None, :] <= positions[key_length - query_length :, None]
        visible = past[None, None] if visible is None else visible & past
    if visible is None:
        return None
    return torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, torch.finfo(dtype).min)


def head_masks(head_mask: Tensor | None, *, num_layers: int, num_heads: int) -> list[Tensor | None]:
    """Each layer's factors [A, 1, 1], of a mask [A] for all layers or [layers, A].

    Raises:
        ValueError: the mask has another shape.
    """
    if head_mask is None:
        return [None] * num_layers
    if head_mask.shape not in ((num_heads,), (num_layers, num_heads)):
        raise ValueError(
            f"head_mask: expected shape ({num_heads},) or ({num_layers}, {num_heads}); found {tuple(head_mask.shape)}"
        )
    return [row[:, None, None] for row in head_mask.expand(num_layers, num_heads)]


def _check_shape(mask: Tensor, query_length: int, key_length: int) -> None:
    fits = mask.dim() in (2, 3, 4) and mask.shape[-1] == key_length
    if not fits or (mask.dim() > 2 and mask.shape[-2] not in (1, query_length)):
        raise ValueError(
            f"attention mask: expected (batch, {key_length}), (batch, {query_length}, {key_length}) or "
            f"(batch, heads or 1, {query_length}, {key_length}), past keys included; found {tuple(mask.shape)}"
        )
