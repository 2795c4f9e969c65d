"""Embeddings with a table of positions, as BERT and its descendants have them.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from models.config import EncoderConfig
from models.layers.layout import Layout


class AbsoluteEmbeddings(nn.Module):
    """Word, token type and position, added, normalised and dropped out.

    Args:
        config: The encoder's; relative positions, where it asks for them, replace the table's.
        padding_position: Row of the position table that padding has, in families with one.
    """

    def __init__(self, config: EncoderConfig, *, padding_position: int | None = None) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=padding_position
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.adds_positions = getattr(config, "position_embedding_type", "absolute") == "absolute"

    def forward(
        self,
        layout: Layout,
        *,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """The first hidden states [..., H], of ids [...] or of word embeddings [B, T, H]."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            embedded = words + self.token_type_embeddings.weight[0]
        else:
            embedded = words + self.token_type_embeddings(token_type_ids)
        if self.adds_positions:
            if position_ids is None:
                position_ids = self.positions(layout, input_ids, words)
            embedded = embedded + self.position_embeddings(position_ids)
        return cast(Tensor, self.dropout(self.LayerNorm(embedded)))

    def positions(self, layout: Layout, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Positions that broadcast to [...]: tokens count up from 0, padding too."""
        return layout.positions(words)
