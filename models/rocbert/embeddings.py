"""RoCBert's embeddings: BERT's, with what a character looks and sounds like.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.layers.embeddings import AbsoluteEmbeddings
from models.layers.layout import Layout
from models.rocbert.config import RoCBertConfig


class RoCBertEmbeddings(AbsoluteEmbeddings):
    """Shape and pronunciation join the word before BERT's embeddings, or are averaged with these.

    Both tables are there even when they are switched off: checkpoints have them.
    """

    def __init__(self, config: RoCBertConfig) -> None:
        super().__init__(config)
        pad = config.pad_token_id
        self.pronunciation_embed = nn.Embedding(
            config.pronunciation_vocab_size, config.pronunciation_embed_dim, padding_idx=pad
        )
        self.shape_embed = nn.Embedding(config.shape_vocab_size, config.shape_embed_dim, padding_idx=pad)
        self.enable_shape = config.enable_shape
        self.enable_pronunciation = config.enable_pronunciation
        self.map_inputs_layer: nn.Linear | None = None
        if config.concat_input:
            width = config.hidden_size
            width += config.shape_embed_dim if config.enable_shape else 0
            width += config.pronunciation_embed_dim if config.enable_pronunciation else 0
            self.map_inputs_layer = nn.Linear(width, config.hidden_size)

    def forward(
        self,
        layout: Layout,
        *,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        input_shape_ids: Tensor | None = None,
        input_pronunciation_ids: Tensor | None = None,
    ) -> Tensor:
        """The first hidden states [..., H], of ids [...] or of word embeddings [B, T, H].

        Shape or pronunciation ids that are not given count as id 0 where parts are concatenated, and are left out
        where they are averaged.

        Raises:
            ValueError: parts that are averaged have different widths.
        """
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        concatenated = self.map_inputs_layer is not None
        parts = []
        for enabled, table, ids in (
            (self.enable_shape, self.shape_embed, input_shape_ids),
            (self.enable_pronunciation, self.pronunciation_embed, input_pronunciation_ids),
        ):
            if enabled and (concatenated or ids is not None):
                zeros = torch.zeros(words.shape[:-1], dtype=torch.int64, device=words.device)
                parts.append(table(zeros if ids is None else ids))

        if self.map_inputs_layer is not None:
            words = self.map_inputs_layer(torch.cat((words, *parts), dim=-1))
        embedded = super().forward(
            layout, inputs_embeds=words, token_type_ids=token_type_ids, position_ids=position_ids
        )
        if concatenated:
            return embedded
        if any(part.shape[-1] != embedded.shape[-1] for part in parts):
            raise ValueError(
                "concat_input=False: expected shape_embed_dim and pronunciation_embed_dim equal to hidden_size "
                f"{embedded.shape[-1]}; found {', '.join(str(part.shape[-1]) for part in parts)}"
            )
        return cast(Tensor, sum(parts, start=embedded) / (1 + len(parts)))
