"""What a task needs to know of a model and a tokenizer, without either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding


@dataclass(kw_only=True)
class StubTokenizer:
    """A tokenizer of which only the facts are asked."""

    model_max_length: int = 1_000_000
    continuing_subword_prefix: str = ""
    token_lengths: npt.NDArray[np.int32] = field(default_factory=lambda: np.ones(100, np.int32))
    unk_token_id: int | None = 3

    def num_special_tokens_to_add(self, pair: bool) -> int:
        return 4 if pair else 2


def stub_config(labels: Sequence[str] = ("O", "B-PER", "I-PER"), **fields: Any) -> SimpleNamespace:
    """A config with these labels."""
    defaults: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "num_labels": len(labels),
        "problem_type": None,
        "max_tokens": 64,
        "hidden_size": 4,
    }
    return SimpleNamespace(**(defaults | fields))


class StubModel:
    """Answers `forward_packed` with the outputs it was made with, of which states are those of all tokens."""

    def __init__(self, **outputs: torch.Tensor | None) -> None:
        self.outputs = SimpleNamespace(**outputs)

    def forward_packed(self, batch: TokenBatch, *, first_tokens: bool = False) -> SimpleNamespace:
        if not first_tokens:
            return self.outputs
        states = self.outputs.last_hidden_state[batch.cu_seqlens[:-1].long()]
        return SimpleNamespace(**(vars(self.outputs) | {"last_hidden_state": states}))


def encoding_of(seqlens: Sequence[int], text_index: Sequence[int]) -> FlatEncoding:
    """An encoding of which only the shape matters."""
    return FlatEncoding(
        input_ids=np.arange(sum(seqlens), dtype=np.int32),
        cu_seqlens=np.cumsum([0, *seqlens]),
        text_index=np.array(text_index, np.int32),
    )
