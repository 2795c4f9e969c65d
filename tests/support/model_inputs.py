"""Small inputs for the parity tests of every family: four rows of at most eight tokens, a hidden size of 32."""

from __future__ import annotations

from typing import Any

import torch

LENGTHS = [8, 5, 5, 2]
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_ids(*shape: int, high: int = 61, low: int = 3) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(sum(shape)))


def right_padded(lengths: list[int] = LENGTHS, *, pad: int = 0) -> dict[str, Any]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {"input_ids": random_ids(*mask.shape).masked_fill(~mask, pad), "attention_mask": mask.long()}


def left_padded(*, pad: int = 0) -> dict[str, Any]:
    return {name: ids.flip(1) for name, ids in right_padded(pad=pad).items()}


def padding_inside(*, pad: int = 0) -> dict[str, Any]:
    ids = random_ids(4, 8)
    ids[1, 3:5] = ids[2, 0] = pad
    return {"input_ids": ids}


def embedded() -> dict[str, Any]:
    return {"inputs_embeds": random(4, 8, 32), "attention_mask": right_padded()["attention_mask"]}


def causal_3d() -> torch.Tensor:
    return torch.ones(4, 8, 8).tril() * right_padded()["attention_mask"][:, None]


def choices(inputs: dict[str, Any]) -> dict[str, Any]:
    """Two choices for each row: the row and another."""
    return {name: torch.stack((ids, ids.flip(0)), dim=1) for name, ids in inputs.items()}


IS_TOKEN = right_padded()["attention_mask"].bool()
TYPES = {"token_type_ids": random_ids(4, 8, high=2, low=0)}
TOKEN_LABELS = random_ids(4, 8, low=0, high=3).masked_fill(~IS_TOKEN, -100)
ENCODER_STATES = {
    "encoder_hidden_states": random(4, 6, 32),
    "encoder_attention_mask": (torch.arange(6)[None] < torch.tensor([6, 4, 1, 3])[:, None]).long(),
}
