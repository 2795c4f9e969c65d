"""What RoFormer's encoder has that others do not: narrow embeddings without positions, and blocks that rotate.

Legend: "..." is B, T on the padded layout and T on the packed one; E embedding size, P positions, D head size.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from models.errors import ConfigError
from models.layers.block import BlockStack
from models.layers.layout import Layout
from models.layers.rotary import Rotation, SinusoidTable
from models.roformer.config import RoFormerConfig


class RoFormerEmbeddings(nn.Module):
    """Word and token type, added, normalised and dropped out."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        layout: Layout,
        *,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [..., E], of ids [...] or of word embeddings [B, T, E]."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            embedded = words + self.token_type_embeddings.weight[0]
        else:
            embedded = words + self.token_type_embeddings(token_type_ids)
        return cast(Tensor, self.dropout(self.LayerNorm(embedded)))


class RotaryBlockStack(BlockStack):
    """Blocks whose self-attention knows positions by rotation alone."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config)
        head_size = config.hidden_size // config.num_attention_heads
        if head_size % 2:
            raise ConfigError(
                f"hidden_size: expected an even number for each of {config.num_attention_heads} heads, because "
                f"features turn in pairs; found {config.hidden_size}, {head_size} for each"
            )
        self.embed_positions = SinusoidTable(num_positions=config.max_position_embeddings, head_size=head_size)
        self.turns_values = config.rotary_value

    def rotation(self, states: Tensor, layout: Layout) -> Rotation:
        table_PD = self.embed_positions.rows(layout.longest(states))
        sine, cosine = table_PD[layout.positions(states), None].chunk(2, dim=-1)
        return Rotation(sine=sine, cosine=cosine, of_values=self.turns_values)
