"""Texts to flat arrays of tokens for WordPiece vocabularies, without a loop over characters or tokens.

Two ways to cut normalised text into pieces that `PieceMemo` then turns into tokens: at blanks and around characters
that stand alone (BERT), or at the segments that a segmenter gives (RoFormer).

Legend: M texts, C characters after normalisation, S pieces, T tokens.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.tokenization.characters import CharacterTable, Kind, ReadTexts, as_text
from models.tokenization.memo import PieceMemo, PieceTokens
from models.tokenization.windows import FlatTokens, IntArray

_MOST_THREADS = 4  # more would wait for Python's lock
_BATCH_CHARS = 1 << 15  # characters at a time: few enough for the processor's caches
_Int32Array = npt.NDArray[np.int32]
_BLANK, _NEWLINE = ord(" "), ord("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """T tokens, each a range of the C characters; tokens of a text are neighbours."""

    ids: npt.NDArray[np.int32]  # [T]
    text_bounds: IntArray  # [M + 1] number of tokens before each text
    places: Callable[[], tuple[IntArray, IntArray]]  # [T] starts and [T] ends, computed when they are asked for


class FlatPieces(ABC):
    """Encodes the texts that can be read by single characters; it says which those are."""

    def __init__(self, table: CharacterTable, memo: PieceMemo) -> None:
        self._table = table
        self._memo = memo

    def encode(self, texts: Sequence[str], *, with_offsets: bool) -> tuple[FlatTokens, npt.NDArray[np.bool_]]:
        """Gives the tokens, and which texts [M] have theirs; the others have none."""
        tokens, is_read = [], []
        for read, pieces in self._split_each(list(_in_batches(texts))):
            tokens.append(self._tokens(read, pieces, with_offsets=with_offsets))
            is_read.append(~read.in_context)
        return _join(tokens), np.concatenate(is_read)

    def normalized(self, texts: Sequence[str]) -> list[str]:
        """The texts as they are cut; an empty one for each that cannot be read by single characters."""
        read = self._table.read(texts)
        joined = as_text(read.code_points)
        return [joined[start : end - 1] for start, end in pairwise(read.starts.tolist())]

    def _split_each(self, batches: Sequence[Sequence[str]]) -> Iterator[tuple[ReadTexts, Sequence[str]]]:
        for batch in batches:
            read = self._table.read(batch)
            yield read, self._split(read)

    def _tokens(self, read: ReadTexts, pieces: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        tokens = self._cut(read, self._memo.look_up(pieces))
        lengths = np.diff(tokens.text_bounds)
        offsets = None
        if with_offsets:
            starts, ends = tokens.places()
            offsets = read.places(starts, ends, np.repeat(np.arange(len(lengths)), lengths))
        return FlatTokens(ids=tokens.ids, lengths=lengths, offsets=offsets)

    @abstractmethod
    def _split(self, read: ReadTexts) -> Sequence[str]:
        """The pieces of the texts that are looked up."""

    @abstractmethod
    def _cut(self, read: ReadTexts, pieces: PieceTokens) -> _Tokens:
        """The tokens of the texts, given those of their pieces."""


class FlatWords(FlatPieces):
    """Words are runs of characters; a character that stands alone is a token, which the table knows."""

    def _split(self, read: ReadTexts) -> Sequence[str]:
        in_word = read.kinds == Kind.IN_WORD
        return as_text(np.where(in_word, read.code_points, _BLANK)).split() if in_word.any() else []

    def _cut(self, read: ReadTexts, pieces: PieceTokens) -> _Tokens:
        in_word = read.kinds == Kind.IN_WORD
        starts_piece = in_word.copy()
        starts_piece[1:] &= ~in_word[:-1]
        starts_piece |= read.kinds == Kind.ALONE
        (piece_starts,) = np.nonzero(starts_piece)
        is_word = in_word[piece_starts]
        counts = np.ones(len(piece_starts), dtype=np.int64)
        counts[is_word] = pieces.counts
        of_word = np.repeat(is_word, counts)
        ids = np.empty(len(of_word), dtype=np.int32)
        ids[of_word] = pieces.ids
        ids[~of_word] = read.token_ids[piece_starts[~is_word]]

        def places() -> tuple[IntArray, IntArray]:
            starts = np.repeat(piece_starts, counts)
            ends = starts + 1
            ends[of_word] = starts[of_word] + pieces.ends
            starts[of_word] += pieces.starts
            return starts, ends

        return _Tokens(ids=ids, text_bounds=_bounds(counts, np.searchsorted(piece_starts, read.starts)), places=places)


class FlatSegments(FlatPieces):
    """The pieces are the segments that a function cuts text into, white space included."""

    def __init__(self, table: CharacterTable, memo: PieceMemo, segment: Callable[[str], Sequence[str]]) -> None:
        """Takes a `segment` that gives all of its text back, and never joins what a newline separates."""
        super().__init__(table, memo)
        self._segment = segment

    def _split_each(self, batches: Sequence[Sequence[str]]) -> Iterator[tuple[ReadTexts, Sequence[str]]]:
        """Splits ahead in threads, as a segmenter may work outside of Python's lock."""
        num_ahead = min(len(batches), num_threads(), _MOST_THREADS)
        if num_ahead == 1:
            yield from super()._split_each(batches)
            return
        with ThreadPoolExecutor(num_ahead) as threads:  # they end with the call: a process may fork at any time
            ahead: deque[tuple[ReadTexts, Future[Sequence[str]]]] = deque()
            for batch in batches:
                read = self._table.read(batch)
                ahead.append((read, threads.submit(self._split, read)))
                if len(ahead) > num_ahead:
                    done, pieces = ahead.popleft()
                    yield done, pieces.result()
            for done, pieces in ahead:
                yield done, pieces.result()

    def _split(self, read: ReadTexts) -> Sequence[str]:
        code_points = read.code_points.copy()
        code_points[read.starts[1:] - 1] = _NEWLINE
        return self._segment(as_text(code_points))

    def _cut(self, read: ReadTexts, pieces: PieceTokens) -> _Tokens:
        piece_starts: IntArray = np.cumsum(pieces.num_chars) - pieces.num_chars

        def places() -> tuple[IntArray, IntArray]:
            first_chars: IntArray = np.repeat(piece_starts, pieces.counts)
            return first_chars + pieces.starts, first_chars + pieces.ends

        bounds = _bounds(pieces.counts, np.searchsorted(piece_starts, read.starts))
        return _Tokens(ids=pieces.ids, text_bounds=bounds, places=places)


def encode_texts(
    texts: Sequence[str],
    pieces: FlatPieces,
    is_apart: npt.NDArray[np.bool_],
    encode_apart: Callable[[Sequence[str]], FlatTokens],
    *,
    with_offsets: bool,
) -> FlatTokens:
    """Encodes texts by their pieces; those marked [M], and those that cannot be read so, by `encode_apart`."""
    if is_apart.any():
        plain = ["" if apart else text for text, apart in zip(texts, is_apart, strict=True)]
        tokens, is_read = pieces.encode(plain, with_offsets=with_offsets)
    else:
        tokens, is_read = pieces.encode(texts, with_offsets=with_offsets)
    is_apart = is_apart | ~is_read
    if not is_apart.any():
        return tokens
    others = encode_apart([text for text, apart in zip(texts, is_apart, strict=True) if apart])
    return _merge(tokens, others, is_apart)


def find_texts(texts: Sequence[str], strings: Collection[str]) -> npt.NDArray[np.bool_]:
    """Marks the texts [M] that have one of the strings in them."""
    joined = "\n".join(texts)
    present = [string for string in strings if string in joined]
    if not present:
        return np.zeros(len(texts), dtype=np.bool_)
    return np.fromiter((any(string in text for string in present) for text in texts), np.bool_, count=len(texts))


def num_threads() -> int:
    """As many threads as the Rust library would use, by the same settings."""
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("false", "off", "no", "n", "f", "0"):
        return 1
    given = os.environ.get("RAYON_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else os.cpu_count() or 1


def _join(parts: Sequence[FlatTokens]) -> FlatTokens:
    if len(parts) == 1:
        return parts[0]
    offsets = [part.offsets for part in parts if part.offsets is not None]
    return FlatTokens(
        ids=np.concatenate([part.ids for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        offsets=np.concatenate(offsets) if offsets else None,
    )


def _merge(some: FlatTokens, others: FlatTokens, is_other: npt.NDArray[np.bool_]) -> FlatTokens:
    """The tokens of all texts, of which `some` has nothing for those that are marked [M]."""
    lengths = some.lengths.copy()
    lengths[is_other] = others.lengths
    of_others = np.repeat(is_other, lengths)

    def merge(values: _Int32Array, other_values: _Int32Array) -> _Int32Array:
        merged = np.empty((len(of_others), *values.shape[1:]), dtype=values.dtype)
        merged[of_others], merged[~of_others] = other_values, values
        return merged

    return FlatTokens(
        ids=merge(some.ids, others.ids),
        lengths=lengths,
        offsets=None if some.offsets is None or others.offsets is None else merge(some.offsets, others.offsets),
    )


def _bounds(counts: IntArray, first_pieces: IntArray) -> IntArray:
    """Number of tokens before each of these pieces."""
    before = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=before[1:])
    bounds: IntArray = before[first_pieces]
    return bounds


def _in_batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = num_chars = 0
    for end, text in enumerate(texts):
        if num_chars > _BATCH_CHARS:
            yield texts[start:end]
            start, num_chars = end, 0
        num_chars += len(text)
    yield texts[start:]
