"""The post-norm transformer block and a stack of them; parameter names are those of checkpoints.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.activations import Activation, activation
from models.cache import KeyValueCache, LayerCache
from models.config import EncoderConfig
from models.errors import ConfigError
from models.layers.attention import Attention, CrossSource
from models.layers.layout import Layout
from models.layers.masks import head_masks
from models.layers.rotary import Rotation


class AddNorm(nn.Module):
    """Projects to the hidden size, adds the residual and normalises."""

    def __init__(self, config: EncoderConfig, *, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.dropout(self.dense(states)) + residual))


class AttentionSublayer(nn.Module):
    """Attention and what brings its result back to the stream."""

    def __init__(self, config: EncoderConfig, *, is_cross: bool = False) -> None:
        super().__init__()
        self.self = Attention(config, is_cross=is_cross)
        self.output = AddNorm(config, in_features=config.hidden_size)

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
        context, probabilities = self.self(
            states,
            layout,
            source=source,
            cache=cache,
            rotation=rotation,
            head_mask=head_mask,
            output_attentions=output_attentions,
        )
        return self.output(context, states), probabilities


class Intermediate(nn.Module):
    """The wide half of the feed-forward block."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = activation(config.hidden_act)

    @property
    def is_gelu(self) -> bool:
        """Whether the activation is the exact GELU, which fast kernels have."""
        function = self.intermediate_act_fn
        return isinstance(function, Activation) and function.function is functional.gelu

    def forward(self, states: Tensor) -> Tensor:
        return cast(Tensor, self.intermediate_act_fn(self.dense(states)))


class Block(nn.Module):
    """Self-attention, cross-attention in a decoder that has it, feed-forward; each followed by its norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.add_cross_attention and not config.is_decoder:
            raise ConfigError("add_cross_attention: expected is_decoder=True with it; found False")
        self.attention = AttentionSublayer(config)
        self.crossattention = AttentionSublayer(config, is_cross=True) if config.add_cross_attention else None
        self.intermediate = Intermediate(config)
        self.output = AddNorm(config, in_features=config.intermediate_size)
        self.chunk_size = config.chunk_size_feed_forward

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but what fast kernels have: no cross-attention, no relative positions."""
        return self.crossattention is None and self.attention.self.distance_embedding is None

    def forward(
        self,
        states: Tensor,
        layout: Layout,
        *,
        cross: CrossSource | None = None,
        cache: LayerCache | None = None,
        rotation: Rotation | None = None,
        head_mask: Tensor | None = None,
        output_attentions: bool = False,
        first_tokens: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The new states [..., H], and the probabilities of self- and cross-attention if they are needed.

        With `first_tokens` the states of each sequence's first token alone, [N, H].
        """
        states, probabilities = self.attention(
            states, layout, cache=cache, rotation=rotation, head_mask=head_mask, output_attentions=output_attentions
        )
        cross_probabilities = None
        if cross is not None and self.crossattention is not None:
            states, cross_probabilities = self.crossattention(
                states,
                cross.layout,
                source=cross.states,
                cache=cache,
                head_mask=head_mask,
                output_attentions=output_attentions,
            )
        if first_tokens:
            states = layout.first_tokens(states)
        return self._feed_forward(states), probabilities, cross_probabilities

    def _feed_forward(self, states: Tensor) -> Tensor:
        if self.chunk_size == 0:
            return cast(Tensor, self.output(self.intermediate(states), states))
        chunks = states.split(self.chunk_size, dim=-2)
        return torch.cat([self.output(self.intermediate(chunk), chunk) for chunk in chunks], dim=-2)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOutput:
    """What a stack of blocks gives; the tuples are None unless asked for."""

    last_hidden_state: Tensor  # [..., H]
    hidden_states: tuple[Tensor, ...] | None = None  # the input, then each block's output
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


class BlockStack(nn.Module):
    """All blocks, one after the other."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.layer = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(
        self,
        states: Tensor,
        layout: Layout,
        *,
        cross: CrossSource | None = None,
        cache: KeyValueCache | None = None,
        head_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        first_tokens: bool = False,
    ) -> StackOutput:
        """The states [..., H]; with `first_tokens` those of each sequence's first token, [N, H].

        Of the last block they are then what is computed after its attention.
        """
        hidden_states = [states]
        attentions: list[Tensor] = []
        cross_attentions: list[Tensor] = []
        rotation = self.rotation(states, layout)
        masks = head_masks(head_mask, num_layers=len(self.layer), num_heads=self.num_heads)
        for index, block in enumerate(self.layer):
            options: dict[str, Any] = {
                "cross": cross,
                "cache": None if cache is None else cache.layers[index],
                "rotation": rotation,
                "head_mask": masks[index],
                "output_attentions": output_attentions,
                "first_tokens": first_tokens and index == len(self.layer) - 1,
            }
            if self.gradient_checkpointing and self.training:
                result = checkpoint(block, states, layout, use_reentrant=False, **options)
            else:
                result = block(states, layout, **options)
            states, probabilities, cross_probabilities = result
            if output_hidden_states:
                hidden_states.append(states)
            if output_attentions:
                attentions.append(probabilities)
                if cross_probabilities is not None:
                    cross_attentions.append(cross_probabilities)
        return StackOutput(
            last_hidden_state=states,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            cross_attentions=tuple(cross_attentions) or None,
        )

    def rotation(self, states: Tensor, layout: Layout) -> Rotation | None:
        """How self-attention turns queries and keys, in families whose positions are rotations."""
        return None


class Pooler(nn.Module):
    """A dense layer and tanh over each sequence's first token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """[N, H] to [N, H]."""
        return torch.tanh(self.dense(first_tokens))
