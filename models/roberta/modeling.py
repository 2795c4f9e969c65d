"""RoBERTa: the shared encoder with its own embeddings, and its heads."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.encoder import EncoderModel
from models.heads import ForSequenceClassification, ForTokenClassification
from models.modeling import PreTrainedModel
from models.roberta.config import RobertaConfig
from models.roberta.embeddings import RobertaEmbeddings
from models.roberta.hf_weights import NAMES


class RobertaPreTrainedModel(PreTrainedModel):
    """What all RoBERTa models have in common."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    checkpoint_names = NAMES


class RobertaModel(RobertaPreTrainedModel, EncoderModel):
    def __init__(self, config: RobertaConfig, add_pooling_layer: bool | None = True) -> None:
        super().__init__(config, embeddings=RobertaEmbeddings(config), add_pooling_layer=add_pooling_layer)


class RobertaClassificationHead(nn.Module):
    """Two layers over the first token."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_head_dropout(config))
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, first_tokens: Tensor) -> Tensor:
        hidden = torch.tanh(self.dense(self.dropout(first_tokens)))
        return cast(Tensor, self.out_proj(self.dropout(hidden)))


class RobertaForSequenceClassification(RobertaPreTrainedModel, ForSequenceClassification):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.classifier = RobertaClassificationHead(config)
        self.post_init()


class RobertaForTokenClassification(RobertaPreTrainedModel, ForTokenClassification):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.dropout = nn.Dropout(_head_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


def _head_dropout(config: RobertaConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
