"""What forward passes return: fields by attribute, by key and, counting those that are set, by index.

Legend: B batch, T query length, S key length, N sequences, H hidden size, A heads, D head size, V vocabulary,
L labels, C choices. On the packed layout [B, T] reads [T], tokens of all sequences end to end, and B reads N.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from models.cache import KeyValueCache


class ModelOutput(Mapping[str, Any]):
    """A mapping of the fields that are not None, in the order in which they are declared."""

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            value = getattr(self, key) if key in self._names() else None
            if value is None:
                raise KeyError(key)
            return value
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names() if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None."""
        return tuple(getattr(self, name) for name in self)

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]  # every subclass is a dataclass


@dataclass(eq=False, kw_only=True)
class BaseModelOutputWithPastAndCrossAttentions(ModelOutput):
    last_hidden_state: Tensor  # [B, T, H]
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None  # embeddings, then each layer: [B, T, H]
    attentions: tuple[Tensor, ...] | None = None  # each layer: [B, A, T, S], after softmax and dropout
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class BaseModelOutputWithPoolingAndCrossAttentions(ModelOutput):
    last_hidden_state: Tensor  # [B, T, H]
    pooler_output: Tensor | None = None  # [B, H]
    hidden_states: tuple[Tensor, ...] | None = None
    past_key_values: KeyValueCache | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class CausalLMOutputWithCrossAttentions(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, T, V]
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class MaskedLMOutput(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, T, V]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class BertForPreTrainingOutput(ModelOutput):
    loss: Tensor | None = None  # []
    prediction_logits: Tensor  # [B, T, V]
    seq_relationship_logits: Tensor  # [B, 2]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class NextSentencePredictorOutput(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, 2]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class SequenceClassifierOutput(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, L]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class MultipleChoiceModelOutput(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, C]; packed: [N], one score for each sequence
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class TokenClassifierOutput(ModelOutput):
    loss: Tensor | None = None  # []
    logits: Tensor  # [B, T, L]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False, kw_only=True)
class QuestionAnsweringModelOutput(ModelOutput):
    loss: Tensor | None = None  # []
    start_logits: Tensor  # [B, T]
    end_logits: Tensor  # [B, T]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
