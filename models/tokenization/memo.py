"""Remembers the tokens of pieces of text: words and segments repeat, so that most are cut into tokens only once.

Legend: N pieces that are cut, S pieces of text that are asked for, T tokens of theirs, K pieces known, U tokens of
those, end to end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.tokenization.windows import IntArray, ranges

_MOST_CHARS = 1 << 20  # of all pieces known; then it begins anew
_NEW = -1

Int32Array = npt.NDArray[np.int32]


class CutPieces(NamedTuple):
    """The tokens of N pieces, T in all; places count from the start of the piece."""

    counts: IntArray  # [N]
    ids: Int32Array  # [T]
    starts: Int32Array  # [T]
    ends: Int32Array  # [T]


Cut = Callable[[Sequence[str]], CutPieces]
"""Cuts pieces, at least one."""


def one_by_one(cut: Callable[[str], list[int]]) -> Cut:
    """Cuts many by a function that cuts one: to id, start and end of its first token, of its second, ...

    Plain numbers in one list, as making many tuples takes longer and wakes the garbage collector.
    """

    def cut_each(pieces: Sequence[str]) -> CutPieces:
        num_tokens: list[int] = []
        flat: list[int] = []
        for piece in pieces:
            tokens = cut(piece)
            num_tokens.append(len(tokens) // 3)
            flat += tokens
        ids, starts, ends = np.array(flat, dtype=np.int32).reshape(-1, 3).T
        return CutPieces(np.array(num_tokens, dtype=np.int64), ids, starts, ends)

    return cut_each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrays:
    counts: IntArray  # [K]
    firsts: IntArray  # [K] -> U
    num_chars: IntArray  # [K]
    ids: Int32Array  # [U]
    starts: Int32Array  # [U]
    ends: Int32Array  # [U]

    def plus(self, pieces: Sequence[str], cut: Cut) -> _Arrays:
        counts, ids, starts, ends = cut(pieces)
        return _Arrays(
            counts=np.append(self.counts, counts),
            firsts=np.append(self.firsts, len(self.ids) + np.cumsum(counts) - counts),
            num_chars=np.append(self.num_chars, np.fromiter(map(len, pieces), np.int64, count=len(pieces))),
            ids=np.append(self.ids, ids),
            starts=np.append(self.starts, starts),
            ends=np.append(self.ends, ends),
        )


_NO_INT64, _NO_INT32 = np.empty(0, np.int64), np.empty(0, np.int32)
_NO_ARRAYS = _Arrays(
    counts=_NO_INT64, firsts=_NO_INT64, num_chars=_NO_INT64, ids=_NO_INT32, starts=_NO_INT32, ends=_NO_INT32
)


class PieceTokens:
    """The tokens of S pieces; what was not asked for is not computed."""

    def __init__(self, arrays: _Arrays, which: IntArray) -> None:
        self._arrays = arrays
        self._which = which
        self.counts: IntArray = arrays.counts[which]  # [S] tokens of each piece
        self._tokens = ranges(arrays.firsts[which], self.counts)

    @property
    def num_chars(self) -> IntArray:
        """[S] length of each piece."""
        return self._arrays.num_chars[self._which]

    @property
    def ids(self) -> Int32Array:
        """[T]"""
        return self._arrays.ids[self._tokens]

    @property
    def starts(self) -> Int32Array:
        """[T] from the start of the piece."""
        return self._arrays.starts[self._tokens]

    @property
    def ends(self) -> Int32Array:
        """[T] from the start of the piece."""
        return self._arrays.ends[self._tokens]


@dataclass(slots=True)
class _Known:
    """Only grows: the arrays are replaced before the index gives numbers that are new in them."""

    index: dict[str, int] = field(default_factory=dict)  # piece -> K
    arrays: _Arrays = _NO_ARRAYS


class PieceMemo:
    """The tokens of pieces, by a function that cuts them.

    Threads may share it. None ever waits: what is not remembered because another thread is remembering is cut again.
    """

    def __init__(self, cut: Cut) -> None:
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
            unknown = list(dict.fromkeys(pieces[i] for i in new))
            numbers = dict(zip(unknown, count(len(arrays.counts)), strict=False))
            which[new] = [numbers[pieces[i]] for i in new]
            before, arrays = arrays, arrays.plus(unknown, self._cut)
            self._remember(known, before, arrays, numbers)
        return PieceTokens(arrays, which)

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
