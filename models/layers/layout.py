"""How the tokens of a batch lie in memory: padded rows, or packed end to end.

Modules act on the last dimension alone and so take both. What must know which tokens belong together - attention,
positions, picking the first token of each sequence - asks the layout, a value that travels with the states.

Legend: "..." is B, T (batch, length) on the padded layout and T (all tokens) on the packed one; S key length,
N sequences, L length of one sequence, A heads, D head size, H hidden size.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from models.batch import TokenBatch
from models.layers.attend import AttentionTerms, attend
from models.layers.masks import attention_bias

varlen_attn: Any  # a function, or None
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None


class Layout(Protocol):
    """What modules may ask of either layout."""

    @property
    def past_length(self) -> int:
        """Tokens of each sequence that a cache already holds, padding included."""

    def positions(self, states: Tensor) -> Tensor:
        """Each token's place in its sequence, from 0, past tokens counted; [T] for states [..., H]."""

    def longest(self, states: Tensor) -> int:
        """Length of the longest sequence, past tokens and padding counted, for states [..., H]."""

    def running_count(self, flags: Tensor) -> Tensor:
        """For each token how many of its sequence up to and including it have a nonzero flag; past tokens count.

        Takes and returns [...].
        """

    def first_tokens(self, states: Tensor) -> Tensor:
        """The states of each sequence's first token: [..., H] to [N, H]."""

    def last_tokens(self, states: Tensor) -> Tensor:
        """The states at each sequence's last place, be it padding: [..., H] to [N, H]."""

    def mean_tokens(self, states: Tensor) -> Tensor:
        """The mean of each sequence's states, padding included: [..., H] to [N, H]."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> tuple[Tensor, Tensor | None]:
        """Attention within each sequence; all [..., A, D], the probabilities as `attend` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedLayout:
    """Rows of equal length."""

    bias: Tensor | None = None  # broadcasts to [B, A, T, S]; None: every query sees every key
    past_length: int = 0

    def positions(self, states: Tensor) -> Tensor:
        return torch.arange(self.past_length, self.longest(states), device=states.device)

    def longest(self, states: Tensor) -> int:
        return self.past_length + states.shape[1]

    def running_count(self, flags: Tensor) -> Tensor:
        return flags.cumsum(dim=1) + self.past_length

    def first_tokens(self, states: Tensor) -> Tensor:
        return states[:, 0]

    def last_tokens(self, states: Tensor) -> Tensor:
        return states[:, -1]

    def mean_tokens(self, states: Tensor) -> Tensor:
        return states.mean(dim=1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> tuple[Tensor, Tensor | None]:
        context, probabilities = attend(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), bias=self.bias, terms=terms
        )
        return context.transpose(1, 2), probabilities


class Run(NamedTuple):
    """Neighbouring sequences of equal length: a rectangle without padding."""

    start: int
    stop: int
    length: int


def runs_of(seqlens: tuple[int, ...]) -> tuple[Run, ...]:
    """Joins neighbours of equal length."""
    runs: list[Run] = []
    start = 0
    for length, neighbours in itertools.groupby(seqlens):
        stop = start + length * sum(1 for _ in neighbours)
        runs.append(Run(start, stop, length))
        start = stop
    return tuple(runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayout:
    """Sequences end to end.

    Attention takes neighbours of equal length together, so a batch sorted by length needs few steps; on CUDA one
    kernel takes the whole batch whatever the lengths.
    """

    cu_seqlens: Tensor  # [N + 1] int32
    seqlens: tuple[int, ...]
    runs: tuple[Run, ...]
    causal: bool = False

    @classmethod
    def of(cls, batch: TokenBatch, *, causal: bool = False) -> Self:
        return cls(cu_seqlens=batch.cu_seqlens, seqlens=batch.seqlens, runs=runs_of(batch.seqlens), causal=causal)

    @property
    def past_length(self) -> int:
        return 0

    def positions(self, states: Tensor) -> Tensor:
        places = torch.arange(states.shape[0], device=states.device)
        return places - self._spread(self.cu_seqlens[:-1].long(), states.shape[0])

    def longest(self, states: Tensor) -> int:
        return max(self.seqlens)

    def running_count(self, flags: Tensor) -> Tensor:
        count = flags.cumsum(dim=0)
        count_before = (count - flags)[self.cu_seqlens[:-1].long()]
        return count - self._spread(count_before, flags.shape[0])

    def _spread(self, values: Tensor, num_tokens: int) -> Tensor:
        """Gives each token [T] the value [N] of its sequence."""
        return values.repeat_interleave(self.cu_seqlens.diff(), output_size=num_tokens)

    def first_tokens(self, states: Tensor) -> Tensor:
        return states[self.cu_seqlens[:-1].long()]

    def last_tokens(self, states: Tensor) -> Tensor:
        return states[self.cu_seqlens[1:].long() - 1]

    def mean_tokens(self, states: Tensor) -> Tensor:
        return torch.stack([sequence.mean(dim=0) for sequence in states.split(self.seqlens)])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> tuple[Tensor, Tensor | None]:
        if varlen_attn is not None and not self.causal and _kernel_takes(query, terms):
            longest = max(self.seqlens)
            return varlen_attn(query, key, value, self.cu_seqlens, self.cu_seqlens, longest, longest), None
        contexts = [self._attend_run(run, query, key, value, terms) for run in self.runs]
        return torch.cat(contexts), None

    def _attend_run(self, run: Run, query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> Tensor:
        query_NALD, key_NALD, value_NALD = (
            states[run.start : run.stop].unflatten(0, (-1, run.length)).transpose(1, 2)
            for states in (query, key, value)
        )
        bias = attention_bias(
            None,
            causal=self.causal,
            query_length=run.length,
            key_length=run.length,
            dtype=query.dtype,
            device=query.device,
        )
        context_NALD, _ = attend(query_NALD, key_NALD, value_NALD, bias=bias, terms=terms)
        return context_NALD.transpose(1, 2).flatten(0, 1)


def _kernel_takes(query: Tensor, terms: AttentionTerms) -> bool:
    """Whether the kernel for sequences of varying length has what is asked for."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and terms.fused
        and terms.dropout_p == 0.0
    )
