"""BERT's pretraining: masked words, and whether one sentence follows another.

Legend: B batch, T query length, V vocabulary, N sequences (B on the padded layout). On the packed layout [B, T]
reads [T].
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models import losses
from models.batch import TokenBatch
from models.bert.config import BertConfig
from models.bert.modeling import BertPreTrainedModel
from models.heads import ModelWithHead, ModelWithLMHead
from models.lm_heads import LMHead, PredictionHeads
from models.outputs import BertForPreTrainingOutput, ModelOutput, NextSentencePredictorOutput


class PreTrainingHeads(PredictionHeads):
    """Words, and whether the second sentence follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class NextSentenceHead(nn.Module):
    """Whether the second sentence follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BertForPreTraining(BertPreTrainedModel, ModelWithLMHead):
    """Predicts masked tokens and whether the second sentence follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=True))
        self.cls = PreTrainingHeads(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Scores [B, T, V] of the token at each position, and [B, 2] of following and of not.

        Args:
            labels: [B, T] token ids, -100 where none counts; the loss needs both kinds of labels.
            next_sentence_label: [B], 0 where the second sentence follows the first and 1 where it does not.
        """
        encoded = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        words = self.output_head(encoded.last_hidden_state)
        follows = self.cls.seq_relationship(encoded.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = losses.token_loss(words, labels) + losses.token_loss(follows, next_sentence_label)
        output = BertForPreTrainingOutput(
            loss=loss,
            prediction_logits=words,
            seq_relationship_logits=follows,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> BertForPreTrainingOutput:
        """Scores [T, V], and [N, 2]."""
        encoded = self.encode_packed(batch)
        return BertForPreTrainingOutput(
            prediction_logits=self.output_head(encoded.last_hidden_state),
            seq_relationship_logits=self.cls.seq_relationship(encoded.pooler_output),
        )


class BertForNextSentencePrediction(BertPreTrainedModel, ModelWithHead):
    """Predicts whether the second sentence follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=True))
        self.cls = NextSentenceHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Scores [B, 2] of following and of not.

        Args:
            labels: [B], 0 where the second sentence follows the first and 1 where it does not.
        """
        encoded = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.cls.seq_relationship(encoded.pooler_output)
        output = NextSentencePredictorOutput(
            loss=None if labels is None else losses.token_loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> NextSentencePredictorOutput:
        """Scores [N, 2]."""
        return NextSentencePredictorOutput(logits=self.cls.seq_relationship(self.encode_packed(batch).pooler_output))
