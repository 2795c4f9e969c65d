"""One result for a text that was longer than the model and went through it in several windows.

Legend: M texts, N token sequences (windows of long texts included), D values a sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tokenization.flat import FlatEncoding


def first_windows(encoding: FlatEncoding) -> npt.NDArray[np.int64]:
    """[M] the place of each text's first sequence."""
    return np.flatnonzero(np.diff(encoding.text_index, prepend=-1))


def mean_over_windows(values: npt.NDArray[np.float32], encoding: FlatEncoding) -> npt.NDArray[np.float32]:
    """The mean over each text's windows, weighted by their number of tokens: [N, D] gives [M, D].

    A text of one window keeps its values bit for bit: the product and the quotient are exact in double precision.
    """
    starts = first_windows(encoding)
    if len(starts) == encoding.num_sequences:
        return values
    weights = encoding.seqlens.astype(np.float64)[:, None]
    mean: npt.NDArray[np.float32] = (
        np.add.reduceat(values * weights, starts) / np.add.reduceat(weights, starts)
    ).astype(np.float32)
    return mean


def max_over_windows(values: npt.NDArray[np.float32], encoding: FlatEncoding) -> npt.NDArray[np.float32]:
    """The largest of each value over a text's windows: [N, D] gives [M, D]."""
    largest: npt.NDArray[np.float32] = np.maximum.reduceat(values, first_windows(encoding))
    return largest
