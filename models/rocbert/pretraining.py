"""RoCBert's pretraining: masked words, and texts told apart whatever an attack did to their characters.

Legend: B batch, T query length, V vocabulary. On the packed layout [B, T] reads [T].
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from models import losses
from models.batch import TokenBatch
from models.heads import ModelWithLMHead
from models.lm_heads import LMHead, PredictionHeads
from models.outputs import MaskedLMOutput, ModelOutput
from models.rocbert.config import RoCBertConfig
from models.rocbert.modeling import RoCBertPreTrainedModel


class RoCBertForPreTraining(RoCBertPreTrainedModel, ModelWithLMHead):
    """Predicts masked tokens, and matches texts with attacked versions of them."""

    def __init__(self, config: RoCBertConfig) -> None:
        super().__init__(config, self.encoder_of(config, add_pooling_layer=True))
        self.cls = PredictionHeads(config)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_shape_ids: Tensor | None = None,
        input_pronunciation_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attack_input_ids: Tensor | None = None,
        attack_input_shape_ids: Tensor | None = None,
        attack_input_pronunciation_ids: Tensor | None = None,
        attack_attention_mask: Tensor | None = None,
        attack_token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels_input_ids: Tensor | None = None,
        labels_input_shape_ids: Tensor | None = None,
        labels_input_pronunciation_ids: Tensor | None = None,
        labels_attention_mask: Tensor | None = None,
        labels_token_type_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Scores [B, T, V] of the token at each position of the texts.

        Args:
            attack_input_ids: The texts with characters swapped for ones that look or sound alike, of any length. With
                labels too they add `losses.contrastive_loss`; the other `attack_` arguments go with them.
            labels_input_ids: [B, T], the correct texts: what the scores are compared with, -100 where none counts.
                The other `labels_` arguments go with them.
        """
        encoded = self.encode(
            input_ids=input_ids,
            input_shape_ids=input_shape_ids,
            input_pronunciation_ids=input_pronunciation_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.output_head(encoded.last_hidden_state)
        loss = None if labels_input_ids is None else losses.token_loss(logits, labels_input_ids)
        if labels_input_ids is not None and attack_input_ids is not None:
            correct = self.encode(
                input_ids=labels_input_ids.masked_fill(
                    labels_input_ids == losses.IGNORE_INDEX, self.config.pad_token_id or 0
                ),
                input_shape_ids=labels_input_shape_ids,
                input_pronunciation_ids=labels_input_pronunciation_ids,
                attention_mask=labels_attention_mask,
                token_type_ids=labels_token_type_ids,
            )
            attacked = self.encode(
                input_ids=attack_input_ids,
                input_shape_ids=attack_input_shape_ids,
                input_pronunciation_ids=attack_input_pronunciation_ids,
                attention_mask=attack_attention_mask,
                token_type_ids=attack_token_type_ids,
            )
            pooled = (cast(Tensor, output.pooler_output) for output in (encoded, attacked, correct))
            loss = losses.contrastive_loss(*pooled) + cast(Tensor, loss)
        output = MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )
        return self._finish(output, return_dict)

    def forward_packed(self, batch: TokenBatch) -> MaskedLMOutput:
        """Scores [T, V]."""
        return MaskedLMOutput(logits=self.output_head(self.encode_packed(batch).last_hidden_state))
