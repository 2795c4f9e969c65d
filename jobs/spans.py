"""From labelled tokens to entities, on flat arrays: whole windows of texts at once, no Python for each token.

Legend: S spans (first tokens, then words, then entities), L labels, W characters of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Aggregation = Literal["none", "simple", "first", "average", "max"]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Stretches of text with a label each, in reading order; those of one sequence are neighbours."""

    sequence: Integers  # [S] the token sequence that each lies in; never decreasing
    label: Integers  # [S]
    score: npt.NDArray[np.float32]  # [S]
    start: Integers  # [S] code points of the original text
    end: Integers  # [S]

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, places: Integers | Mask) -> Spans:
        return Spans(
            sequence=self.sequence[places],
            label=self.label[places],
            score=self.score[places],
            start=self.start[places],
            end=self.end[places],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """A label set, taken apart as BIO tagging has it: `B-PER` begins a `PER`, `I-PER` and a bare `PER` continue it."""

    tag: Integers  # [L] labels of one tag share a number
    begins: Mask  # [L] whether the label always begins an entity

    @classmethod
    def of(cls, names: Sequence[str]) -> Tags:
        bare = [name[2:] if name.startswith(("B-", "I-")) else name for name in names]
        return cls(
            tag=np.unique(bare, return_inverse=True)[1].astype(np.int64),
            begins=np.array([name.startswith("B-") for name in names], dtype=bool),
        )


def entity_name(label: str) -> str:
    """What an entity is called that starts with this label: all after the first dash, if there is one."""
    return label.split("-", 1)[-1]


def words(
    tokens: Spans,
    is_subword: Mask,
    aggregation: Literal["first", "average", "max"],
    scores: npt.NDArray[np.float32] | None,
) -> Spans:
    """Joins the tokens of each word; the word has one label.

    Args:
        tokens: S tokens with their best label and its score.
        is_subword: [S] whether the token goes on with the word of the token before it in its sequence.
        aggregation: whose label the word gets: that of its first token, of its token with the highest score, or the
            best one of the average of its tokens' scores.
        scores: [S, L] for `average`, else not needed.
    """
    starts = np.flatnonzero(_changes(tokens.sequence) | ~is_subword)
    if len(starts) == 0:
        return tokens
    joined = _join(tokens, starts)
    if aggregation == "first":
        label, score = tokens.label[starts], tokens.score[starts]
    elif aggregation == "max":
        best = _first_largest(tokens.score, starts)
        label, score = tokens.label[best], tokens.score[best]
    else:
        assert scores is not None
        average = np.add.reduceat(scores, starts) / _lengths(starts, len(tokens))[:, None].astype(np.float32)
        label, score = average.argmax(axis=1), average.max(axis=1)
    return Spans(sequence=joined.sequence, label=label, score=score, start=joined.start, end=joined.end)


def entities(spans: Spans, tags: Tags) -> Spans:
    """Joins neighbours of one tag, gaps in the text or not; a label that begins an entity never goes on with one.

    The entity's score is the mean of its spans' scores, its label that of its first span.
    """
    tag = tags.tag[spans.label]
    starts = np.flatnonzero(_changes(spans.sequence) | _changes(tag) | tags.begins[spans.label])
    return _join(spans, starts) if len(starts) else spans


def merge_overlapping(spans: Spans, text: Integers) -> Integers:
    """Which entities to keep where several windows of one text saw the same place, and in which order.

    Of two that overlap the longer wins, then the one with the higher score, then the earlier.

    Args:
        spans: S entities.
        text: [S] the text that each lies in.

    Returns:
        The places of the entities to keep, ordered by text and start.
    """
    kept: list[int] = []
    order = np.lexsort((spans.start, text))
    rows = zip(order.tolist(), *(v[order].tolist() for v in (text, spans.start, spans.end, spans.score)), strict=True)
    last_text, last_start, last_end, last_score = -1, 0, 0, 0.0
    # One by one, for the winner of a contest is in the next contest; and only for texts that took several windows.
    for place, in_text, start, end, score in rows:
        if in_text == last_text and last_start <= start < last_end:
            if (end - start, score) <= (last_end - last_start, last_score):
                continue
            kept.pop()
        kept.append(place)
        last_text, last_start, last_end, last_score = in_text, start, end, score
    return np.array(kept, dtype=np.int64)


def glued_to_previous(texts: Sequence[str], text: npt.NDArray[np.integer], start: Integers) -> Mask:
    """Whether there is no blank right before or at the start of a token: a guess at what goes on with a word.

    For tokenizers that do not mark the pieces of a word; punctuation counts as a part of the word that it touches.

    Args:
        texts: the M texts.
        text: [S] the text that each token lies in.
        start: [S] where each token starts, in code points.
    """
    lengths = np.fromiter((len(one) + 1 for one in texts), dtype=np.int64, count=len(texts))
    text_start = np.cumsum(lengths) - lengths
    # A line break after each text, so that a token at the very end does not look into the next one.
    characters = np.frombuffer("".join(f"{one}\n" for one in texts).encode("utf-32-le"), dtype=np.uint32)
    blank = characters == ord(" ")
    place = text_start[text] + start
    mask: Mask = (start > 0) & ~blank[place] & ~blank[np.maximum(place - 1, 0)]
    return mask


def _changes(values: Integers) -> Mask:
    """[S] whether each value differs from the one before it; the first does."""
    changes: Mask = np.diff(values, prepend=-1) != 0
    return changes


def _lengths(starts: Integers, total: int) -> Integers:
    return np.diff(starts, append=total)


def _join(spans: Spans, starts: Integers) -> Spans:
    """Joins the spans from each start to the next: the first one's label, the mean score."""
    lengths = _lengths(starts, len(spans))
    return Spans(
        sequence=spans.sequence[starts],
        label=spans.label[starts],
        score=(np.add.reduceat(spans.score.astype(np.float64), starts) / lengths).astype(np.float32),
        start=spans.start[starts],
        end=spans.end[starts + lengths - 1],
    )


def _first_largest(values: npt.NDArray[np.float32], starts: Integers) -> Integers:
    """The place of the largest value from each start to the next; of equals, the first."""
    segment = np.repeat(np.arange(len(starts)), _lengths(starts, len(values)))
    order = np.lexsort((-values, segment))  # stable
    first: Integers = order[starts]
    return first
