"""RoBERTa's embeddings: positions count from after the padding id."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.embeddings import AbsoluteEmbeddings
from models.layers.layout import Layout
from models.roberta.config import RobertaConfig


class RobertaEmbeddings(AbsoluteEmbeddings):
    """Those of BERT, but padding has a position of its own."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, padding_position=config.pad_token_id)
        self.padding_id = -1 if config.pad_token_id is None else config.pad_token_id  # -1: no token is padding
        self.padding_position = config.padding_position

    def positions(self, layout: Layout, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Tokens count up from after the padding position; a padding id has that position wherever it stands."""
        if input_ids is None:  # nothing tells padding from tokens, nor what a cache holds
            length = words.shape[1]
            return torch.arange(length, device=words.device)[None] + self.padding_position + 1
        is_token = input_ids.ne(self.padding_id).long()
        return layout.running_count(is_token) * is_token + self.padding_position
