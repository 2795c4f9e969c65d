"""BERT: the shared encoder as it is, and its heads.

A descendant whose encoder differs takes these heads over by naming its encoder in `encoder_of`.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from models.bert.config import BertConfig
from models.encoder import EncoderModel
from models.heads import (
    ForCausalLM,
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from models.layers.embeddings import AbsoluteEmbeddings
from models.lm_heads import LMHead, PredictionHeads
from models.modeling import PreTrainedModel
from models.outputs import BaseModelOutputWithPoolingAndCrossAttentions


class BertPreTrainedModel(PreTrainedModel):
    """What all BERT models have in common."""

    config_class = BertConfig
    base_model_prefix = "bert"

    @classmethod
    def encoder_of(cls, config: BertConfig, *, add_pooling_layer: bool) -> EncoderModel:
        """A new encoder for a head."""
        return BertModel(config, add_pooling_layer=add_pooling_layer)


class BertModel(BertPreTrainedModel, EncoderModel):
    """The encoder, or with `is_decoder` the decoder; see `EncoderModel`."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool | None = True) -> None:
        super().__init__(config, embeddings=AbsoluteEmbeddings(config), add_pooling_layer=add_pooling_layer)
        self.post_init()


class BertLMHeadModel(BertPreTrainedModel, ForCausalLM):
    caches_with_labels = False

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=False))
        self.cls = PredictionHeads(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions


class BertForMaskedLM(BertPreTrainedModel, ForMaskedLM):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=False))
        self.cls = PredictionHeads(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions


class BertForSequenceClassification(BertPreTrainedModel, ForSequenceClassification):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=True))
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def score(self, first_tokens: Tensor, encoded: BaseModelOutputWithPoolingAndCrossAttentions) -> Tensor:
        return cast(Tensor, self.classifier(self.dropout(encoded.pooler_output)))


class BertForMultipleChoice(BertPreTrainedModel, ForMultipleChoice):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=True))
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()


class BertForTokenClassification(BertPreTrainedModel, ForTokenClassification):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=False))
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class BertForQuestionAnswering(BertPreTrainedModel, ForQuestionAnswering):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=False))
        self.post_init()
