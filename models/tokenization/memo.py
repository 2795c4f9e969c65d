"""Remembers the tokens of pieces of text: words and segments repeat, so that most are cut into tokens only once.

Legend: S pieces of text that are asked for, T tokens of theirs, K pieces known, U tokens of those, end to end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.tokenization.windows import IntArray, ranges

_MOST_CHARS = 1 << 20  # of all pieces known; then it begins anew
_NEW = -1

Int32Array = npt.NDArray[np.int32]


class Token(NamedTuple):
    """A token, and the characters of its piece that it stands for."""

    token_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceTokens:
    """The tokens of S pieces."""

    counts: IntArray  # [S] tokens of each piece
    num_chars: IntArray  # [S] length of each piece
    ids: Int32Array  # [T]
    starts: Int32Array  # [T] from the start of the piece
    ends: Int32Array  # [T]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrays:
    counts: IntArray  # [K]
    firsts: IntArray  # [K] -> U
    num_chars: IntArray  # [K]
    tokens: Int32Array  # [U, 3] id, start, end

    def plus(self, pieces: Mapping[str, Sequence[Token]]) -> _Arrays:
        counts = np.fromiter(map(len, pieces.values()), np.int64, count=len(pieces))
        tokens = np.fromiter(chain.from_iterable(chain.from_iterable(pieces.values())), np.int32).reshape(-1, 3)
        return _Arrays(
            counts=np.append(self.counts, counts),
            firsts=np.append(self.firsts, len(self.tokens) + np.cumsum(counts) - counts),
            num_chars=np.append(self.num_chars, np.fromiter(map(len, pieces), np.int64, count=len(pieces))),
            tokens=np.append(self.tokens, tokens, axis=0),
        )


_NO_ARRAYS = _Arrays(
    counts=np.empty(0, np.int64),
    firsts=np.empty(0, np.int64),
    num_chars=np.empty(0, np.int64),
    tokens=np.empty((0, 3), np.int32),
)


@dataclass(slots=True)
class _Known:
    """Only grows: the arrays are replaced before the index gives numbers that are new in them."""

    index: dict[str, int] = field(default_factory=dict)  # piece -> K
    arrays: _Arrays = _NO_ARRAYS


class PieceMemo:
    """The tokens of pieces, by a function that cuts one piece.

    Threads may share it. None ever waits: what is not remembered because another thread is remembering is cut again.
    """

    def __init__(self, cut: Callable[[str], Sequence[Token]]) -> None:
        self._cut = cut
        self._known = _Known()
        self._remembering = threading.Lock()

    def look_up(self, pieces: Sequence[str]) -> PieceTokens:
        """Gives the tokens of each piece."""
        known = self._known
        which = np.fromiter(map(known.index.get, pieces, repeat(_NEW)), np.int64, count=len(pieces))
        arrays = known.arrays
        new = np.flatnonzero(which == _NEW).tolist()
        if new:
            cut = {piece: self._cut(piece) for piece in dict.fromkeys(pieces[i] for i in new)}
            numbers = {piece: len(arrays.counts) + i for i, piece in enumerate(cut)}
            which[new] = [numbers[pieces[i]] for i in new]
            before, arrays = arrays, arrays.plus(cut)
            self._remember(known, before, arrays, numbers)
        counts = arrays.counts[which]
        tokens = arrays.tokens[ranges(arrays.firsts[which], counts)]
        return PieceTokens(
            counts=counts,
            num_chars=arrays.num_chars[which],
            ids=tokens[:, 0],
            starts=tokens[:, 1],
            ends=tokens[:, 2],
        )

    def _remember(self, known: _Known, before: _Arrays, arrays: _Arrays, numbers: Mapping[str, int]) -> None:
        if not self._remembering.acquire(blocking=False):
            return
        try:
            if self._known is known and known.arrays is before:
                known.arrays = arrays
                known.index.update(numbers)
                if arrays.num_chars.sum() > _MOST_CHARS:
                    self._known = _Known()
        finally:
            self._remembering.release()
