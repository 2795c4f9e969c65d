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

    Once the window's tokens are gathered by `token_order`, every batch is a contiguous slice of them.
    """

    order: Ints  # [N] sequence indices
    token_order: Ints  # [T] token indices in that order
    seqlens: Ints  # [N] lengths in that order
    cuts: Ints  # [batches + 1] batch b holds sequences cuts[b]:cuts[b + 1] of `order`
    token_cuts: Ints  # [batches + 1] the same in tokens of `token_order`

    def batches(self) -> Iterator[tuple[slice, slice]]:
        """Yields (sequences, tokens) slices of the gathered window, a pair per batch."""
        for i in range(len(self.cuts) - 1):
            yield slice(self.cuts[i], self.cuts[i + 1]), slice(self.token_cuts[i], self.token_cuts[i + 1])


def plan_batches(cu_seqlens: Ints, token_budget: int, *, by_length: bool = True) -> BatchPlan:
    """Cuts a window greedily into batches of at most `token_budget` tokens.

    A sequence longer than the budget is a batch of its own.

    Args:
        cu_seqlens: [N + 1] boundaries of the sequences in the window's flat tokens.
        token_budget: most tokens in a batch; packed, so padding does not count.
        by_length: longest first, equal ones in their order: neighbours of equal length need no padding, and a batch too
            big for the device shows at once. False leaves sequences in their order, long and short ones together.
    """
    seqlens = np.diff(cu_seqlens)
    order = np.argsort(-seqlens, kind="stable") if by_length else np.arange(len(seqlens))
    ordered_lens = seqlens[order]
    ends = np.cumsum(ordered_lens)
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
        token_order=ranges(cu_seqlens[:-1][order], ordered_lens),
        seqlens=ordered_lens,
        cuts=sequence_cuts,
        token_cuts=token_ends[sequence_cuts],
    )


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Concatenates the ranges start:start + length, without a loop."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    expanded: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return expanded
