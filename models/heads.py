"""Models with a head: one class for each task, of which a family makes its own by giving its encoder and its head.

The arguments of the padded forward passes are those of `EncoderModel.forward`, and what a task adds; families with
ids of their own take these by keyword. The packed ones are for inference: they take no labels and give logits only.

Legend: B batch, T query length, H hidden size, V vocabulary, L labels, C choices, N sequences (B on the padded
layout). On the packed layout [B, T] reads [T], all tokens of the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from models import losses
from models.batch import TokenBatch
from models.cache import KeyValueCache, LayerStates
from models.config import EncoderConfig
from models.encoder import EncoderModel, given
from models.errors import ConfigError
from models.layers.layout import Layout, PackedLayout, PaddedLayout
from models.lm_heads import LMHead
from models.modeling import PreTrainedModel
from models.outputs import (
    BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    ModelOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

logger = logging.getLogger(__name__)


class ModelWithHead(PreTrainedModel):
    """An encoder under its family's prefix; the heads stand beside it."""

    def __init__(self, config: EncoderConfig, encoder: EncoderModel) -> None:
        super().__init__(config)
        self.add_module(self.base_model_prefix, encoder)

    def encode(self, **inputs: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Runs the encoder on a padded batch; arguments that are None are left to its defaults."""
        return cast(BaseModelOutputWithPoolingAndCrossAttentions, self.base_model(**given(**inputs), return_dict=True))

    def encode_packed(
        self, batch: TokenBatch, *, first_tokens: bool = False
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Runs the encoder on a packed batch."""
        return cast(EncoderModel, self.base_model).forward_packed(batch, first_tokens=first_tokens)


class ModelWithLMHead(ModelWithHead):
    """A model that scores the vocabulary at every token."""

    @property
    def output_head(self) -> LMHead:
        """The head, wherever the family keeps it."""
        raise NotImplementedError

    def get_output_embeddings(self) -> nn.Linear:
        return self.output_head.decoder

    def set_output_embeddings(self, embeddings: nn.Linear) -> None:
        self.output_head.decoder = embeddings
        self.output_head.bias = embeddings.bias

    def tie_weights(self) -> None:
        super().tie_weights()
        self.output_head.tie_bias()


class ForCausalLM(ModelWithLMHead):
    """Predicts the next token; meant for a config with `is_decoder`."""

    caches_with_labels: ClassVar[bool] = True
    """Whether a call with labels returns a cache all the same; families differ."""

    def __init__(self, config: EncoderConfig, encoder: EncoderModel) -> None:
        super().__init__(config, encoder)
        if not config.is_decoder:
            logger.warning("%s without is_decoder=True: tokens see those after them", type(self).__name__)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: KeyValueCache | Sequence[LayerStates] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Scores [B, T, V] of the token after each.

        Args:
            labels: [B, T] token ids, the same positions as the inputs (the loss shifts them), -100 where none counts.
            logits_to_keep: Only the last so many positions, or those of an index tensor; 0 keeps all.
            num_items_in_batch: See `causal_lm_loss`.
        """
        encoded = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache if labels is None or self.caches_with_labels else False,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            cache_position=cache_position,
            **family_inputs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.output_head(encoded.last_hidden_state[:, kept])
        output = CausalLMOutputWithCrossAttentions(
            loss=None
            if labels is None
            else losses.causal_lm_loss(logits, labels, num_items_in_batch=num_items_in_batch),
            logits=logits,
            past_key_values=encoded.past_key_values,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            cross_attentions=encoded.cross_attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> CausalLMOutputWithCrossAttentions:
        """Scores [T, V]."""
        return CausalLMOutputWithCrossAttentions(logits=self.output_head(self.encode_packed(batch).last_hidden_state))


class ForMaskedLM(ModelWithLMHead):
    """Predicts masked tokens."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Scores [B, T, V] of the token at each position.

        Args:
            labels: [B, T] token ids, -100 where none counts.
        """
        encoded = self.encode(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **family_inputs,
        )
        logits = self.output_head(encoded.last_hidden_state)
        output = MaskedLMOutput(
            loss=None if labels is None else losses.token_loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> MaskedLMOutput:
        """Scores [T, V]."""
        return MaskedLMOutput(logits=self.output_head(self.encode_packed(batch).last_hidden_state))


class ForSequenceClassification(ModelWithHead):
    """Scores a sequence."""

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
        """Logits [B, L].

        Args:
            labels: [B] classes, or [B] or [B, L] numbers; see `sequence_classification_loss`.
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
        logits = self.score(encoded.last_hidden_state[:, 0], encoded)
        output = SequenceClassifierOutput(
            loss=None if labels is None else losses.sequence_classification_loss(logits, labels, self.config),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> SequenceClassifierOutput:
        """Logits [N, L]."""
        encoded = self.encode_packed(batch, first_tokens=True)
        return SequenceClassifierOutput(logits=self.score(encoded.last_hidden_state, encoded))

    def score(self, first_tokens: Tensor, encoded: BaseModelOutputWithPoolingAndCrossAttentions) -> Tensor:
        """Logits [N, L], of the states [N, H] of each sequence's first token, or of the pooler's output."""
        return cast(Tensor, self.classifier(first_tokens))


class ForMultipleChoice(ModelWithHead):
    """Scores each of several sequences, of which one is to be chosen."""

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
        """Logits [B, C] of inputs [B, C, T], or [B, C, T, H] embeddings.

        Args:
            labels: [B] choices.
        """
        words = input_ids if inputs_embeds is None else inputs_embeds
        if words is None:
            raise ValueError("expected either input_ids or inputs_embeds")
        choices = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
            **family_inputs,
        }
        encoded = self.encode(
            **{name: None if inputs is None else inputs.flatten(0, 1) for name, inputs in choices.items()},
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.score(encoded, PaddedLayout()).view(-1, words.shape[1])
        output = MultipleChoiceModelOutput(
            loss=None if labels is None else losses.multiple_choice_loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> MultipleChoiceModelOutput:
        """Logits [N]; which sequences are one question's choices only the caller knows."""
        return MultipleChoiceModelOutput(logits=self.score(self.encode_packed(batch), PackedLayout.of(batch)))

    def score(self, encoded: BaseModelOutputWithPoolingAndCrossAttentions, layout: Layout) -> Tensor:
        """Logits [N], of the pooler's output."""
        assert encoded.pooler_output is not None
        return cast(Tensor, self.classifier(self.dropout(encoded.pooler_output))).squeeze(-1)


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
        """Logits [B, T, L].

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
            loss=None if labels is None else losses.token_loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> TokenClassifierOutput:
        """Logits [T, L]."""
        states = self.encode_packed(batch).last_hidden_state
        return TokenClassifierOutput(logits=self.classifier(self.dropout(states)))


class ForQuestionAnswering(ModelWithHead):
    """Scores every token as start and as end of the answer."""

    def __init__(self, config: EncoderConfig, encoder: EncoderModel) -> None:
        super().__init__(config, encoder)
        if config.num_labels != 2:
            raise ConfigError(
                f"num_labels: expected 2, start and end, for question answering; found {config.num_labels}"
            )
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Start and end logits, each [B, T].

        Args:
            start_positions: [B] or [B, 1] token positions; the loss needs both ends.
            end_positions: The same.
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
        start_logits, end_logits = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = losses.span_loss(start_logits, end_logits, start_positions, end_positions)
        output = QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> QuestionAnsweringModelOutput:
        """Start and end logits, each [T]."""
        start_logits, end_logits = self.qa_outputs(self.encode_packed(batch).last_hidden_state).unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start_logits, end_logits=end_logits)
