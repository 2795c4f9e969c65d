"""Lays tokens out as sequences with their special tokens: flat arrays in, a `FlatEncoding` out, no loop over rows.

Legend: M texts (or pairs), N sequences, T tokens of the texts, U tokens of the sequences (special ones included).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.tokenization.flat import FlatEncoding

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceLayout:
    """Which special tokens stand before, between and after the texts of a sequence.

    Runs of special tokens and texts alternate: one text has two runs, a pair has three.
    """

    special_ids: tuple[tuple[int, ...], ...]
    special_types: tuple[tuple[int, ...], ...]  # token type of each special token
    text_types: tuple[int, ...]  # token type of each text
    special_extras: Mapping[str, int] = field(default_factory=dict)  # what special tokens have in each of the extras

    @property
    def num_special(self) -> int:
        return sum(len(run) for run in self.special_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatTokens:
    """The tokens of M texts end to end, without special tokens of the layout."""

    ids: npt.NDArray[np.int32]  # [T]
    lengths: IntArray  # [M]
    offsets: npt.NDArray[np.int32] | None  # [T, 2] in code points
    extras: Mapping[str, npt.NDArray[np.int32]] = field(default_factory=dict)  # a family's own ids, each [T]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cuts:
    """Which tokens of each text go into each of the N sequences."""

    text_index: IntArray  # [N]
    starts: list[IntArray]  # for each text of the sequence: [N], counted from the first token of the row's text
    lengths: list[IntArray]  # the same shape
    num_truncated: int = 0  # texts (or pairs) that lost their end


def lay_out(
    texts: Sequence[FlatTokens], layout: SequenceLayout, *, max_length: int | None, stride: int, overflow: bool
) -> FlatEncoding:
    """Cuts one text or pair per row into sequences of at most `max_length` tokens and adds the special tokens.

    Args:
        texts: one set of texts, or two of the same M for pairs.
        max_length: tokens in a sequence, special ones included; None means no limit.
        stride: tokens that neighbouring windows of a text share.
        overflow: cut what is too long into windows; False drops the end, of the longer text first.

    Raises:
        ValueError: no room for the text within `max_length`, or `stride` leaves no room to move on.
    """
    cuts = _cut(texts, _room(layout, len(texts), max_length, stride), stride, overflow)
    num_sequences = len(cuts.text_index)

    # One pool: the tokens of the texts, then the special tokens. Every piece of every sequence is a range in it.
    special = np.array([token for run in layout.special_ids for token in run], dtype=np.int32)
    pool = np.concatenate([*(text.ids for text in texts), special])
    num_pieces = 2 * len(texts) + 1
    starts = np.empty((num_sequences, num_pieces), dtype=np.int64)
    lengths = np.empty((num_sequences, num_pieces), dtype=np.int64)
    special_start = len(pool) - len(special)
    for run, tokens in enumerate(layout.special_ids):
        starts[:, 2 * run] = special_start
        lengths[:, 2 * run] = len(tokens)
        special_start += len(tokens)
    text_start = 0
    for place, text in enumerate(texts):
        row_starts = text_start + np.cumsum(text.lengths) - text.lengths
        starts[:, 2 * place + 1] = row_starts[cuts.text_index] + cuts.starts[place]
        lengths[:, 2 * place + 1] = cuts.lengths[place]
        text_start += len(text.ids)

    source = ranges(starts.ravel(), lengths.ravel())
    cu_seqlens = np.zeros(num_sequences + 1, dtype=np.int64)
    np.cumsum(lengths.sum(axis=1), out=cu_seqlens[1:])

    offsets = None
    if texts[0].offsets is not None:
        nowhere = np.zeros((len(special), 2), dtype=np.int32)
        offsets = np.concatenate([*(text.offsets for text in texts if text.offsets is not None), nowhere])[source]
    return FlatEncoding(
        input_ids=pool[source],
        cu_seqlens=cu_seqlens,
        text_index=cuts.text_index.astype(np.int32),
        token_type_ids=_token_types(texts, layout)[source] if _has_types(layout) else None,
        offsets=offsets,
        special=None if offsets is None else source >= len(pool) - len(special),
        extras={
            name: np.concatenate([*(text.extras[name] for text in texts), np.full_like(special, value)])[source]
            for name, value in layout.special_extras.items()
        },
        num_truncated=cuts.num_truncated,
    )


def _room(layout: SequenceLayout, num_texts: int, max_length: int | None, stride: int) -> int | None:
    """How many tokens of the texts fit into a sequence."""
    if max_length is None:
        return None
    room = max_length - layout.num_special
    if room < num_texts:
        raise ValueError(
            f"max_length {max_length} leaves no room for text: {layout.num_special} are special tokens; "
            f"use at least {layout.num_special + num_texts}"
        )
    if not 0 <= stride < room // num_texts:
        raise ValueError(
            f"stride {stride} must be at least 0 and less than {room // num_texts}, the tokens in a window"
        )
    return room


def _cut(texts: Sequence[FlatTokens], room: int | None, stride: int, overflow: bool) -> _Cuts:
    lengths = [text.lengths for text in texts]
    whole = [np.zeros_like(length) for length in lengths]
    if room is None:
        return _Cuts(text_index=np.arange(len(lengths[0])), starts=whole, lengths=lengths)
    widths = share_room(lengths, room)
    if not overflow:
        kept = [np.minimum(length, width) for length, width in zip(lengths, widths, strict=True)]
        too_long = np.any([length > width for length, width in zip(lengths, widths, strict=True)], axis=0)
        return _Cuts(
            text_index=np.arange(len(lengths[0])),
            starts=whole,
            lengths=kept,
            num_truncated=int(np.count_nonzero(too_long)),
        )

    # Every window of the first text meets every window of the second; one of them nearly always is whole.
    counts = [
        1 + np.maximum(0, -(-(length - width) // np.maximum(1, width - stride)))
        for length, width in zip(lengths, widths, strict=True)
    ]
    num_windows = np.prod(counts, axis=0, dtype=np.int64)
    text_index = np.repeat(np.arange(len(num_windows)), num_windows)
    rank = ranges(np.zeros_like(num_windows), num_windows)  # of the sequence within its row
    starts, cut_lengths = [], []
    for length, width, count in zip(reversed(lengths), reversed(widths), reversed(counts), strict=True):
        rank, window = np.divmod(rank, count[text_index])
        start = window * (width - stride)[text_index]
        starts.append(start)
        cut_lengths.append(np.minimum(width[text_index], length[text_index] - start))
    return _Cuts(text_index=text_index, starts=starts[::-1], lengths=cut_lengths[::-1])


def share_room(lengths: Sequence[IntArray], room: int) -> list[IntArray]:
    """Shares the room among the texts of each row: the shorter one of a pair keeps up to half of it."""
    if len(lengths) == 1:
        return [np.full_like(lengths[0], room)]
    first, second = lengths
    half = room // 2
    first_width = np.where(first <= second, np.minimum(first, half), room - np.minimum(second, half))
    return [first_width, room - first_width]


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """The numbers start, start + 1, ... of each range, end to end."""
    ends = np.cumsum(lengths)
    shift = starts - (ends - lengths)
    result: IntArray = np.repeat(shift, lengths)
    result += np.arange(len(result))
    return result


def _has_types(layout: SequenceLayout) -> bool:
    return any(layout.text_types) or any(map(any, layout.special_types))


def _token_types(texts: Sequence[FlatTokens], layout: SequenceLayout) -> npt.NDArray[np.int8]:
    """The token type of each place in the pool."""
    of_texts = [np.full(len(text.ids), kind, np.int8) for text, kind in zip(texts, layout.text_types, strict=True)]
    of_specials = np.array([kind for run in layout.special_types for kind in run], dtype=np.int8)
    return np.concatenate([*of_texts, of_specials])
