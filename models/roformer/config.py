"""RoFormer's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from models.config import EncoderConfig


class RoFormerConfig(EncoderConfig):
    """What differs from other encoders: rotary positions, the width of the embeddings, the multiple-choice summary."""

    architectures_by_type: ClassVar[dict[str, str]] = {"roformer": "RoFormer"}

    model_type: str = "roformer"
    vocab_size: int = 50000
    embedding_size: int  # of words and token types; hidden_size unless given
    max_position_embeddings: int = 1536  # rows of the position table; longer sequences continue it
    pad_token_id: int | None = 0
    rotary_value: bool = False  # whether values turn as queries and keys do

    # How multiple choice makes one vector of a sequence.
    summary_type: str = "last"  # position: last, first, mean of all, or cls_index, which is last here
    summary_use_proj: bool = False
    summary_proj_to_labels: bool = False  # project to num_labels instead of hidden_size
    summary_activation: str | Callable[[Tensor], Tensor] | None = None
    summary_first_dropout: float = 0.0  # before the projection
    summary_last_dropout: float = 0.0

    def __init__(self, **fields: Any) -> None:
        embedding_size = fields.pop("embedding_size", None)
        super().__init__(**fields)
        self.embedding_size = self.hidden_size if embedding_size is None else embedding_size
