"""Cutting a window of token sequences into packed batches under a token budget. Pure arithmetic on lengths.

Legend: N sequences, T tokens in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """The order in which a window goes to the device, and where it is cut.

    Once the window's tokens are gathered by `token_order`, every batch is a contiguous slice of them, and sequences of
    equal length are neighbours, so nothing is ever padded.
    """

    order: Ints  # [N] sequence indices, longest first; equal lengths keep their order
    token_order: Ints  # [T] token indices in that order
    seqlens: Ints  # [N] lengths in that order, never rising
    cuts: Ints  # [batches + 1] batch b holds sequences cuts[b]:cuts[b + 1] of `order`
    token_cuts: Ints  # [batches + 1] the same in tokens of `token_order`

    def batches(self) -> Iterator[tuple[slice, slice]]:
        """Yields (sequences, tokens) slices of the gathered window, a pair per batch."""
        for i in range(len(self.cuts) - 1):
            yield slice(self.cuts[i], self.cuts[i + 1]), slice(self.token_cuts[i], self.token_cuts[i + 1])


def plan_batches(cu_seqlens: Ints, token_budget: int) -> BatchPlan:
    """Sorts a window by length and cuts it greedily into batches of at most `token_budget` tokens.

    Longest first, so that a batch too big for the device shows at once. A sequence longer than the budget is a batch of
    its own.

    Args:
        cu_seqlens: [N + 1] boundaries of the sequences in the window's flat tokens.
        token_budget: most tokens in a batch; packed, so padding does not count.
    """
    seqlens = np.diff(cu_seqlens)
    order = np.argsort(-seqlens, kind="stable")
    sorted_lens = seqlens[order]
    ends = np.cumsum(sorted_lens)
    cuts = [0]
    while cuts[-1] < len(order):
        first = cuts[-1]
        before = ends[first - 1] if first else 0
        fits = int(np.searchsorted(ends, before + token_budget, side="right"))
        cuts.append(max(fits, first + 1))
    sequence_cuts = np.asarray(cuts, dtype=np.int64)
    token_ends = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    return BatchPlan(
        order=order,
        token_order=ranges(cu_seqlens[:-1][order], sorted_lens),
        seqlens=sorted_lens,
        cuts=sequence_cuts,
        token_cuts=token_ends[sequence_cuts],
    )


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Concatenates the ranges start:start + length, without a loop."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    expanded: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return expanded
