"""Models with a head: one class for each task, from which a family makes its own by naming its encoder and head.

Legend: "..." is B, T on the padded layout and T (all tokens) on the packed one; N sequences (B on the padded layout),
H hidden size, V vocabulary, L labels, C choices.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from models import losses
from models.batch import TokenBatch
from models.config import EncoderConfig
from models.encoder import EncoderModel
from models.modeling import PreTrainedModel
from models.outputs import (
    BaseModelOutputWithPoolingAndCrossAttentions,
    ModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)


class ModelWithHead(PreTrainedModel):
    """An encoder under its family's prefix; the heads stand beside it."""

    def __init__(self, config: EncoderConfig, encoder: EncoderModel) -> None:
        super().__init__(config)
        self.add_module(self.base_model_prefix, encoder)

    def encode(self, **inputs: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Runs the encoder on a padded batch; arguments that are None are left to its defaults."""
        given = {name: value for name, value in inputs.items() if value is not None}
        return cast(BaseModelOutputWithPoolingAndCrossAttentions, self.base_model(**given, return_dict=True))

    def encode_packed(self, batch: TokenBatch) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Runs the encoder on a packed batch."""
        return cast(EncoderModel, self.base_model).forward_packed(batch)


class LMHead(nn.Module):
    """The vocabulary's projection and its bias, which checkpoints have under two names."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias


class ForSequenceClassification(ModelWithHead):
    """Scores a sequence by its first token."""

    classifier: nn.Module

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
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Logits [B, L] of a padded batch; arguments as the encoder's.

        Args:
            labels: [B] classes, or [B] or [B, L] numbers; `sequence_classification_loss` says which.
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
            **family_inputs,
        )
        logits = self.score(encoded.last_hidden_state[:, 0], encoded.pooler_output)
        output = SequenceClassifierOutput(
            loss=None if labels is None else losses.sequence_classification_loss(logits, labels, self.config),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> SequenceClassifierOutput:
        """Logits [N, L] of a packed batch."""
        encoded = self.encode_packed(batch)
        first_tokens = encoded.last_hidden_state[batch.cu_seqlens[:-1].long()]
        return SequenceClassifierOutput(logits=self.score(first_tokens, encoded.pooler_output))

    def score(self, first_tokens: Tensor, pooled: Tensor | None) -> Tensor:
        """Logits [N, L] of the first tokens' states [N, H]; families with a pooler use its output instead."""
        return cast(Tensor, self.classifier(first_tokens))


class ForTokenClassification(ModelWithHead):
    """Scores every token."""

    dropout: nn.Dropout
    classifier: nn.Linear

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
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Logits [B, T, L] of a padded batch; arguments as the encoder's.

        Args:
            labels: [B, T] classes, -100 where none counts.
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
            **family_inputs,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        output = TokenClassifierOutput(
            loss=None if labels is None else losses.masked_lm_loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> TokenClassifierOutput:
        """Logits [T, L] of a packed batch."""
        states = self.encode_packed(batch).last_hidden_state
        return TokenClassifierOutput(logits=self.classifier(self.dropout(states)))
