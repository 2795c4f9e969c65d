"""The encoder (or decoder) that all families share: embeddings, a stack of blocks, and for most a pooler.

Legend: B batch, T query length, S key length, N sequences, H hidden size, A heads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from models.batch import TokenBatch
from models.cache import KeyValueCache, LayerStates
from models.config import EncoderConfig
from models.layers.attention import CrossSource
from models.layers.block import BlockStack, Pooler
from models.layers.layout import Layout, PackedLayout, PaddedLayout
from models.layers.masks import attention_bias
from models.modeling import PreTrainedModel
from models.outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    ModelOutput,
)

logger = logging.getLogger(__name__)


class EncoderModel(PreTrainedModel):
    """A family's base model; what differs is its embeddings, and in some its blocks.

    Args:
        embeddings: The family's: a module `(layout, *, input_ids or inputs_embeds, token_type_ids, ...)` that gives
            the first hidden states, with its lookup table at `word_embeddings`.
        blocks: The family's, if they are not the common ones.
        add_pooling_layer: Whether to have a pooler. For `from_pretrained` None means: if the file has one.
    """

    construction_arguments: ClassVar[tuple[str, ...]] = ("add_pooling_layer",)
    has_pooler_output: ClassVar[bool] = True
    """Whether outputs have a place for the pooler's, even if a model has none."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        embeddings: nn.Module,
        blocks: BlockStack | None = None,
        add_pooling_layer: bool | None = True,
    ) -> None:
        super().__init__(config)
        self.embeddings = embeddings
        self.encoder = BlockStack(config) if blocks is None else blocks
        self.pooler = Pooler(config) if add_pooling_layer else None

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
        past_key_values: KeyValueCache | Sequence[LayerStates] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        **family_inputs: Tensor | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Hidden states of a padded batch.

        Args:
            input_ids: [B, T]; or instead of them `inputs_embeds`, [B, T, H].
            attention_mask: [B, S] with 1 for tokens and 0 for padding, past ones included, or one of the other
                forms that `attention_bias` takes. None: every token counts, padding too.
            token_type_ids: [B, T]; None: zeros.
            position_ids: [B, T] or [1, T]; None: counted by the family's rule.
            head_mask: [A] or [layers, A], factors on the attention probabilities.
            encoder_hidden_states: [B, S, H] that a decoder with cross-attention attends to.
            encoder_attention_mask: [B, S], as `attention_mask`.
            past_key_values: What an earlier call returned, or the same as tuples; it is extended in place.
            use_cache: Whether a decoder returns `past_key_values`.
            cache_position: Taken for compatibility; new tokens always follow those in the cache.
            **family_inputs: Ids that only one family has, [B, T].

        Raises:
            ValueError: shapes or arguments contradict each other.
        """
        output_attentions = self._choose(output_attentions, "output_attentions")
        output_hidden_states = self._choose(output_hidden_states, "output_hidden_states")
        words = input_ids if inputs_embeds is None else inputs_embeds
        if words is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("expected either input_ids or inputs_embeds")
        query_length = words.shape[1]
        self._check_chunks(query_length)

        returns_cache = self._returns_cache(use_cache)
        cache = self._cache(past_key_values, returns_cache)
        past_length = 0 if cache is None else cache.get_seq_length()
        layout = PaddedLayout(
            bias=attention_bias(
                attention_mask,
                causal=self.config.is_decoder,
                query_length=query_length,
                key_length=past_length + query_length,
                dtype=self.dtype,
                device=words.device,
            ),
            past_length=past_length,
        )
        inputs = given(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            **family_inputs,
        )
        encoded = self.encoder(
            self.embed(layout, **inputs),
            layout,
            cross=self._cross_source(encoder_hidden_states, encoder_attention_mask, query_length),
            cache=cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        output = BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=encoded.last_hidden_state,
            past_key_values=cache if returns_cache else None,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            cross_attentions=encoded.cross_attentions,
        )
        if not self.has_pooler_output:
            return self._finish(output, return_dict)
        pooler_output = self._pool(layout.first_tokens(encoded.last_hidden_state))
        if self._choose(return_dict, "return_dict"):
            return BaseModelOutputWithPoolingAndCrossAttentions(pooler_output=pooler_output, **vars(output))
        # As the reference's tuples are: the pooler's output in second place even if None.
        return output.last_hidden_state, pooler_output, *output.to_tuple()[1:]

    def forward_packed(
        self, batch: TokenBatch, *, first_tokens: bool = False
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Hidden states [T, H] of a packed batch, and the pooler's output [N, H] where there is a pooler.

        The numbers are those of the padded forward pass, up to rounding.

        Args:
            first_tokens: Only each sequence's first token is wanted: the states are [N, H], and the last block computes
                those of no other.

        Raises:
            ValueError: a sequence is longer than the model can take.
        """
        self._check_length(batch.max_seqlen)
        layout = PackedLayout.of(batch, causal=self.config.is_decoder)
        inputs = given(input_ids=batch.input_ids, token_type_ids=batch.token_type_ids, **batch.extras)
        states = self.encoder(self.embed(layout, **inputs), layout, first_tokens=first_tokens).last_hidden_state
        first_states = states if first_tokens else layout.first_tokens(states)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states, pooler_output=self._pool(first_states)
        )

    def embed(self, layout: Layout, **inputs: Tensor) -> Tensor:
        """What the first block is given, [..., H]."""
        return cast(Tensor, self.embeddings(layout, **inputs))

    def get_input_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.embeddings.word_embeddings)

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        self.embeddings.word_embeddings = embeddings

    def _pool(self, first_tokens: Tensor) -> Tensor | None:
        return None if self.pooler is None else self.pooler(first_tokens)

    def _returns_cache(self, use_cache: bool | None) -> bool:
        if not self.config.is_decoder or not self._choose(use_cache, "use_cache"):
            return False
        if self.encoder.gradient_checkpointing and self.training:
            logger.warning("use_cache: off, because blocks are recomputed in the backward pass")
            return False
        return True

    def _cache(self, past: KeyValueCache | Sequence[LayerStates] | None, returns_cache: bool) -> KeyValueCache | None:
        if past is None:
            return KeyValueCache(len(self.encoder.layer)) if returns_cache else None
        return past if isinstance(past, KeyValueCache) else KeyValueCache.from_legacy_cache(past)

    def _cross_source(self, states: Tensor | None, mask: Tensor | None, query_length: int) -> CrossSource | None:
        if states is None or not self.config.is_decoder:
            return None
        if not self.config.add_cross_attention:
            raise ValueError("encoder_hidden_states: expected a model with add_cross_attention=True in its config")
        bias = attention_bias(
            mask,
            causal=False,
            query_length=query_length,
            key_length=states.shape[1],
            dtype=self.dtype,
            device=states.device,
        )
        return CrossSource(states=states, layout=PaddedLayout(bias=bias))

    def _check_length(self, longest: int) -> None:
        """Refuses packed sequences before they reach the device, where an index error would say nothing."""
        if longest > self.config.max_tokens:
            raise ValueError(f"expected sequences of at most {self.config.max_tokens} tokens; found one of {longest}")

    def _check_chunks(self, length: int) -> None:
        chunk = self.config.chunk_size_feed_forward
        if chunk and length % chunk:
            raise ValueError(
                f"chunk_size_feed_forward: expected a length that is a multiple of {chunk}; found {length}"
            )


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None, so that a family need not know those of others."""
    return {name: value for name, value in arguments.items() if value is not None}
