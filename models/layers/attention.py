"""Multi-head attention, to the sequence itself or to an encoder's states.

Legend: "..." is B, T on the padded layout and T on the packed one; A heads, D head size, H hidden size,
B batch, T query length, S key length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from models.cache import LayerCache
from models.config import EncoderConfig
from models.errors import ConfigError
from models.layers.attend import AttentionTerms
from models.layers.layout import Layout, PaddedLayout
from models.layers.rotary import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSource:
    """An encoder's output, as cross-attention sees it."""

    states: Tensor  # [B, S, H]
    layout: PaddedLayout


class RelativeDistances(nn.Embedding):
    """A vector for each distance between query and key: arXiv 1803.02155 and, with keys, method 4 of 2009.13658."""

    def __init__(self, *, max_positions: int, head_size: int, with_keys: bool) -> None:
        super().__init__(2 * max_positions - 1, head_size)
        self.max_positions = max_positions
        self.with_keys = with_keys

    def scores(self, query_BATD: Tensor, key_BASD: Tensor, *, from_last: bool) -> Tensor:
        """What distances add to the scores, [B, A, T, S].

        Args:
            from_last: Measure from the last key, whatever the query. That is right for one new token; the reference
                does it for any number of them as soon as there is a cache, and so do we.
        """
        num_keys = key_BASD.shape[2]
        keys = torch.arange(num_keys, device=key_BASD.device)
        queries = keys[-1:] if from_last else keys[num_keys - query_BATD.shape[2] :]
        distance_TSD = self(queries[:, None] - keys[None, :] + self.max_positions - 1)
        scores = torch.einsum("batd,tsd->bats", query_BATD, distance_TSD.expand(query_BATD.shape[2], -1, -1))
        if self.with_keys:
            scores = scores + torch.einsum("basd,tsd->bats", key_BASD, distance_TSD)
        return scores


class Attention(nn.Module):
    """Queries, keys, values, and the weighted sum; the projection of the result is the caller's.

    Args:
        config: The encoder's config.
        is_cross: Keys and values come from another sequence, which has no distance to this one.

    Raises:
        ConfigError: the hidden size is no multiple of the heads, or the position embedding type is unknown.
    """

    def __init__(self, config: EncoderConfig, *, is_cross: bool = False) -> None:
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ConfigError(
                f"hidden_size: expected a multiple of num_attention_heads {config.num_attention_heads}; "
                f"found {config.hidden_size}"
            )
        self.is_cross = is_cross
        self.head_size = config.hidden_size // config.num_attention_heads
        self.dropout_p = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

        kind = getattr(config, "position_embedding_type", "absolute")
        if kind not in ("absolute", "relative_key", "relative_key_query"):
            raise ConfigError(
                f"position_embedding_type: expected absolute, relative_key or relative_key_query; found {kind!r}"
            )
        self.distance_embedding: RelativeDistances | None = None
        if kind != "absolute" and not is_cross:
            self.distance_embedding = RelativeDistances(
                max_positions=config.max_position_embeddings,
                head_size=self.head_size,
                with_keys=kind == "relative_key_query",
            )

    def forward(
        self,
        states: Tensor,
        layout: Layout,
        *,
        source: Tensor | None = None,
        cache: LayerCache | None = None,
        rotation: Rotation | None = None,
        head_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends.

        Args:
            states: [..., H].
            layout: Of the keys: whose tokens `states`, or `source`, are.
            source: Where keys and values come from, [B, S, H], if not from `states`.
            cache: Extended by the new keys and values.
            rotation: Applied to queries and keys; keys are cached after it.
            head_mask: [A, 1, 1].

        Returns:
            The contexts [..., H], and the probabilities [B, A, T, S] if they are needed.
        """
        query = self._split_heads(self.query(states))
        if rotation is not None:
            query = rotation.turn(query)
        key, value = self._keys_and_values(states if source is None else source, cache, rotation)
        relative = None
        if self.distance_embedding is not None:
            relative = partial(self.distance_embedding.scores, from_last=cache is not None)
        terms = AttentionTerms(
            dropout_p=self.dropout_p if self.training else 0.0,
            relative=relative,
            head_mask=head_mask,
            output_attentions=output_attentions,
        )
        context, probabilities = layout.attend(query, key, value, terms)
        return context.flatten(-2), probabilities

    def _keys_and_values(
        self, source: Tensor, cache: LayerCache | None, rotation: Rotation | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [..., A, D], those of past tokens included."""
        if cache is not None and self.is_cross and cache.cross_states is not None:
            key_BASD, value_BASD = cache.cross_states
            return key_BASD.transpose(1, 2), value_BASD.transpose(1, 2)
        key, value = self._split_heads(self.key(source)), self._split_heads(self.value(source))
        if rotation is not None:
            key = rotation.turn(key)
            value = rotation.turn(value) if rotation.of_values else value
        if cache is None:
            return key, value
        if self.is_cross:
            cache.cross_key, cache.cross_value = key.transpose(1, 2), value.transpose(1, 2)
            return key, value
        key_BASD, value_BASD = cache.extend(key.transpose(1, 2), value.transpose(1, 2))
        return key_BASD.transpose(1, 2), value_BASD.transpose(1, 2)

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.reshape(*states.shape[:-1], -1, self.head_size)
