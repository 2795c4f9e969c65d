"""The mathematics of attention on one rectangular batch.

Legend: B batch, T query length, S key length, A heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionTerms:
    """What an attention layer asks for beyond queries, keys and values."""

    dropout_p: float = 0.0  # on the probabilities; 0 when not training
    relative: Callable[[Tensor, Tensor], Tensor] | None = None  # queries, keys -> [B, A, T, S], added before scaling
    head_mask: Tensor | None = None  # [A, 1, 1], multiplied on the probabilities
    output_attentions: bool = False

    @property
    def fused(self) -> bool:
        """Whether nothing asked for needs the matrix of probabilities."""
        return self.relative is None and self.head_mask is None and not self.output_attentions


def attend(
    query_BATD: Tensor, key_BASD: Tensor, value_BASD: Tensor, *, bias: Tensor | None, terms: AttentionTerms
) -> tuple[Tensor, Tensor | None]:
    """Attention of every query to every key.

    Args:
        bias: Added to the scaled scores; broadcasts to [B, A, T, S].

    Returns:
        The contexts [B, A, T, D], and the probabilities [B, A, T, S] where `terms` needs them.
    """
    if terms.fused:
        context = functional.scaled_dot_product_attention(
            query_BATD, key_BASD, value_BASD, attn_mask=bias, dropout_p=terms.dropout_p
        )
        return context, None

    scores = query_BATD @ key_BASD.transpose(-1, -2)
    if terms.relative is not None:
        scores = scores + terms.relative(query_BATD, key_BASD)
    scores = scores / math.sqrt(query_BATD.shape[-1])
    if bias is not None:
        scores = scores + bias
    probabilities = functional.dropout(scores.softmax(dim=-1), terms.dropout_p)
    if terms.head_mask is not None:
        probabilities = probabilities * terms.head_mask
    return probabilities @ value_BASD, probabilities
