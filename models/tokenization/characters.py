"""Normalises many texts at once: what becomes of a character is learned once, and looked up in arrays from then on.

Legend: M texts, C characters of theirs after normalisation (with a blank after each text), R characters known, P what
those become, end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.tokenization.windows import IntArray, ranges

_NUM_CODE_POINTS = 0x110000
_UNKNOWN = -1  # in the place of a row
_IN_CONTEXT = -1  # in the place of a count


class Kind(IntEnum):
    """What a character is to the word that it stands in."""

    BLANK = 0
    ALONE = 1  # a word by itself
    IN_WORD = 2


class ReadCharacter(NamedTuple):
    """A character after normalisation."""

    char: str
    kind: Kind
    token_id: int = 0  # of a character that is a word by itself


CharacterReader = Callable[[str], Sequence[ReadCharacter] | None]
"""What one character becomes: nothing, one character or more; None if that depends on its neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTexts:
    """The characters of M texts after normalisation, end to end; a blank stands after each text."""

    code_points: npt.NDArray[np.uint32]  # [C]
    kinds: npt.NDArray[np.uint8]  # [C]
    token_ids: npt.NDArray[np.int32]  # [C]
    starts: IntArray  # [M + 1] of each text, and the end
    sources: IntArray | None  # [C] which character of the original texts, joined likewise; None: the same one
    source_starts: IntArray  # [M] of each text there
    in_context: npt.NDArray[np.bool_]  # [M] this text cannot be read by single characters; it has none here

    def places(self, starts: IntArray, ends: IntArray, text_index: IntArray) -> npt.NDArray[np.int32]:
        """Ranges of characters [T] of texts [T], as (start, end) in code points of the original text [T, 2]."""
        if self.sources is not None:
            starts, ends = self.sources[starts], self.sources[ends - 1] + 1
        return (np.stack([starts, ends], axis=1) - self.source_starts[text_index, None]).astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    row_of: npt.NDArray[np.int32]  # [code points] -> R
    count: IntArray  # [R] into how many characters it turns
    first: IntArray  # [R] -> P
    code_points: npt.NDArray[np.uint32]  # [P]
    kinds: npt.NDArray[np.uint8]  # [P]
    token_ids: npt.NDArray[np.int32]  # [P]


class CharacterTable:
    """What becomes of each character, learned as characters turn up.

    Threads may share it: what is learned is replaced as a whole, never changed, so that two that learn at the same
    time lose a lesson, not a character.
    """

    def __init__(self, read_character: CharacterReader) -> None:
        self._read_character = read_character
        self._learned = _Learned(
            row_of=np.full(_NUM_CODE_POINTS, _UNKNOWN, dtype=np.int32),
            count=np.empty(0, np.int64),
            first=np.empty(0, np.int64),
            code_points=np.empty(0, np.uint32),
            kinds=np.empty(0, np.uint8),
            token_ids=np.empty(0, np.int32),
        )

    def read(self, texts: Sequence[str]) -> ReadTexts:
        """Normalises texts."""
        joined = "\n".join([*texts, ""])
        chars = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        source_ends = np.cumsum(np.fromiter(map(len, texts), np.int64, count=len(texts)) + 1)
        source_starts = np.concatenate([[0], source_ends])
        learned = self._learned
        rows = learned.row_of[chars]
        if len(rows) and rows.min() == _UNKNOWN:
            learned = self._learn(learned, map(chr, np.unique(chars[rows == _UNKNOWN])))
            rows = learned.row_of[chars]
        counts = learned.count[rows]
        in_context = np.zeros(len(texts), dtype=np.bool_)
        if len(counts) and counts.min() == counts.max() == 1:
            places, sources, starts = learned.first[rows], None, source_starts
        else:
            in_context[np.searchsorted(source_ends, np.flatnonzero(counts == _IN_CONTEXT), side="right")] = True
            counts[np.repeat(in_context, np.diff(source_starts))] = 0
            counts[source_ends - 1] = 1
            places, sources = ranges(learned.first[rows], counts), np.repeat(np.arange(len(counts)), counts)
            starts = np.concatenate([[0], np.cumsum(counts)])[source_starts]
        return ReadTexts(
            code_points=learned.code_points[places],
            kinds=learned.kinds[places],
            token_ids=learned.token_ids[places],
            starts=starts,
            sources=sources,
            source_starts=source_starts[:-1],
            in_context=in_context,
        )

    def _learn(self, known: _Learned, chars: Iterable[str]) -> _Learned:
        row_of = known.row_of.copy()
        counts: list[int] = []
        read: list[ReadCharacter] = []
        for row, char in enumerate(chars, start=len(known.count)):
            becomes = self._read_character(char)
            row_of[ord(char)] = row
            counts.append(_IN_CONTEXT if becomes is None else len(becomes))
            read += becomes or ()
        new_counts = np.array(counts, dtype=np.int64)
        widths = np.maximum(new_counts, 0)
        self._learned = _Learned(
            row_of=row_of,
            count=np.concatenate([known.count, new_counts]),
            first=np.concatenate([known.first, len(known.kinds) + np.cumsum(widths) - widths]),
            code_points=np.append(known.code_points, np.array([ord(one.char) for one in read], dtype=np.uint32)),
            kinds=np.append(known.kinds, np.array([one.kind for one in read], dtype=np.uint8)),
            token_ids=np.append(known.token_ids, np.array([one.token_id for one in read], dtype=np.int32)),
        )
        return self._learned


def as_text(code_points: npt.NDArray[np.uint32]) -> str:
    """The string of code points."""
    return code_points.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")
