"""What the pipeline gets from a tokenizer: flat arrays, ready for the packed layout.

Legend: M texts (or pairs), N token sequences (N > M where long texts were cut into windows), T tokens in all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatEncoding:
    """N token sequences of M texts, laid end to end; windows of one text are neighbours, in order."""

    input_ids: npt.NDArray[np.int32]  # [T]
    cu_seqlens: npt.NDArray[np.int64]  # [N + 1]; sequence i holds the tokens cu_seqlens[i]:cu_seqlens[i + 1]
    text_index: npt.NDArray[np.int32]  # [N] which text each sequence came from; never decreasing
    token_type_ids: npt.NDArray[np.int8] | None = None  # [T]; None means all zero
    offsets: npt.NDArray[np.int32] | None = None  # [T, 2] start, end in code points of the original text
    special: npt.NDArray[np.bool_] | None = None  # [T] true for special tokens; given together with offsets
    num_truncated: int = 0  # texts that lost their end, where no windows were asked for
    extras: dict[str, npt.NDArray[np.int32]] = field(default_factory=dict)  # a family's own ids, each [T]

    @property
    def seqlens(self) -> npt.NDArray[np.int64]:
        """[N] lengths in tokens."""
        return np.diff(self.cu_seqlens)

    @property
    def num_sequences(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)
