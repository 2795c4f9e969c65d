"""RoBERTa: the shared encoder with its own embeddings, and its heads."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoder import EncoderModel
from models.heads import (
    ForCausalLM,
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from models.lm_heads import LMHead
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
    """The encoder, or with `is_decoder` the decoder; see `EncoderModel`."""

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool | None = True) -> None:
        super().__init__(config, embeddings=RobertaEmbeddings(config), add_pooling_layer=add_pooling_layer)
        self.post_init()


class RobertaLMHead(LMHead):
    """With GELU whatever the config's activation is."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(in_features=config.hidden_size, vocab_size=config.vocab_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def prepare(self, states: Tensor) -> Tensor:
        return cast(Tensor, self.layer_norm(functional.gelu(self.dense(states))))


class RobertaForCausalLM(RobertaPreTrainedModel, ForCausalLM):
    caches_with_labels = False

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.lm_head = RobertaLMHead(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.lm_head


class RobertaForMaskedLM(RobertaPreTrainedModel, ForMaskedLM):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.lm_head = RobertaLMHead(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.lm_head


class RobertaClassificationHead(nn.Module):
    """Two layers over the first token."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """[N, H] to [N, L]."""
        hidden = torch.tanh(self.dense(self.dropout(first_tokens)))
        return cast(Tensor, self.out_proj(self.dropout(hidden)))


class RobertaForSequenceClassification(RobertaPreTrainedModel, ForSequenceClassification):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.classifier = RobertaClassificationHead(config)
        self.post_init()


class RobertaForMultipleChoice(RobertaPreTrainedModel, ForMultipleChoice):
    positional = (
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "labels",
        "position_ids",
        "head_mask",
        "inputs_embeds",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
    )

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()


class RobertaForTokenClassification(RobertaPreTrainedModel, ForTokenClassification):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class RobertaForQuestionAnswering(RobertaPreTrainedModel, ForQuestionAnswering):
    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config, RobertaModel(config, add_pooling_layer=False))
        self.post_init()
