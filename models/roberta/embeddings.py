"""RoBERTa's embeddings: positions count from after the padding id.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.layers.layout import Layout
from models.roberta.config import RobertaConfig


class RobertaEmbeddings(nn.Module):
    """Word, token type and position, added, normalised and dropped out."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.padding_id = -1 if config.pad_token_id is None else config.pad_token_id  # -1: no token is padding
        self.padding_position = config.padding_position
        self.adds_positions = config.position_embedding_type == "absolute"

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
                position_ids = self._positions(layout, input_ids, words)
            embedded = embedded + self.position_embeddings(position_ids)
        return cast(Tensor, self.dropout(self.LayerNorm(embedded)))

    def _positions(self, layout: Layout, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Tokens count up from after the padding position; a padding id has that position wherever it stands."""
        if input_ids is None:  # nothing tells padding from tokens, nor what a cache holds
            length = words.shape[1]
            return torch.arange(length, device=words.device)[None] + self.padding_position + 1
        is_token = input_ids.ne(self.padding_id).long()
        return layout.running_count(is_token) * is_token + self.padding_position
