"""RoCBert: BERT with embeddings of shape and pronunciation, under BERT's heads.

Every model takes `input_shape_ids` and `input_pronunciation_ids`; packed, they are `extras` of the batch.
"""

from __future__ import annotations

from typing import cast

from torch import nn

from models.bert.config import BertConfig
from models.bert.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertPreTrainedModel,
)
from models.encoder import EncoderModel
from models.errors import ConfigError
from models.rocbert.config import RoCBertConfig
from models.rocbert.embeddings import RoCBertEmbeddings
from models.rocbert.hf_weights import NAMES

# The order of positional arguments: shape and pronunciation come second, and there are no head masks.
INPUTS = (
    "input_ids",
    "input_shape_ids",
    "input_pronunciation_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "inputs_embeds",
)
ENCODER = ("encoder_hidden_states", "encoder_attention_mask")


class RoCBertPreTrainedModel(BertPreTrainedModel):
    """What all RoCBert models have in common."""

    config_class = RoCBertConfig
    base_model_prefix = "roc_bert"
    checkpoint_names = NAMES

    @classmethod
    def encoder_of(cls, config: BertConfig, *, add_pooling_layer: bool) -> EncoderModel:
        if not isinstance(config, RoCBertConfig):
            raise ConfigError(f"expected a RoCBertConfig; found a {type(config).__name__}")
        return RoCBertModel(config, add_pooling_layer=add_pooling_layer)


class RoCBertModel(RoCBertPreTrainedModel, EncoderModel):
    """The encoder, or with `is_decoder` the decoder; see `EncoderModel`."""

    positional = (*INPUTS, *ENCODER, "past_key_values", "use_cache")

    def __init__(self, config: RoCBertConfig, add_pooling_layer: bool | None = True) -> None:
        super().__init__(config, embeddings=RoCBertEmbeddings(config), add_pooling_layer=add_pooling_layer)
        self.post_init()

    def get_shape_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.embeddings.shape_embed)

    def set_shape_embeddings(self, embeddings: nn.Embedding) -> None:
        self.embeddings.shape_embed = embeddings

    def get_pronunciation_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.embeddings.pronunciation_embed)

    def set_pronunciation_embeddings(self, embeddings: nn.Embedding) -> None:
        self.embeddings.pronunciation_embed = embeddings


class RoCBertForCausalLM(RoCBertPreTrainedModel, BertLMHeadModel):
    positional = (*INPUTS, *ENCODER, "past_key_values", "labels", "use_cache", "logits_to_keep")
    caches_with_labels = True


class RoCBertForMaskedLM(RoCBertPreTrainedModel, BertForMaskedLM):
    positional = (*INPUTS, *ENCODER, "labels")


class RoCBertForSequenceClassification(RoCBertPreTrainedModel, BertForSequenceClassification):
    positional = (*INPUTS, "labels")


class RoCBertForMultipleChoice(RoCBertPreTrainedModel, BertForMultipleChoice):
    positional = (*INPUTS, "labels")


class RoCBertForTokenClassification(RoCBertPreTrainedModel, BertForTokenClassification):
    positional = (*INPUTS, "labels")


class RoCBertForQuestionAnswering(RoCBertPreTrainedModel, BertForQuestionAnswering):
    positional = (*INPUTS, "start_positions", "end_positions")
