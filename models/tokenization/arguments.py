"""The arguments of a tokenizer call: how `padding`, `truncation` and the texts are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeGuard

_log = logging.getLogger(__name__)

Text = str | list[str]  # a text, or its words
TextOrPair = tuple[Text, Text | None]
Side = Literal["left", "right"]
TensorType = Literal["pt", "np"]

NO_LIMIT = int(1e30)  # the model_max_length of a tokenizer that states none
_HUGE = int(1e20)  # a model_max_length above it is no limit


class PaddingStrategy(StrEnum):
    """Up to which length rows are padded."""

    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TruncationStrategy(StrEnum):
    """Which text of a pair is cut when the row is too long."""

    ONLY_FIRST = "only_first"
    ONLY_SECOND = "only_second"
    LONGEST_FIRST = "longest_first"
    DO_NOT_TRUNCATE = "do_not_truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Up to which length rows are cut and padded."""

    padding: PaddingStrategy
    truncation: TruncationStrategy
    max_length: int | None
    stride: int = 0
    pad_to_multiple_of: int | None = None
    padding_side: Side = "right"
    truncation_side: Side = "right"

    def padded_length(self, lengths: Sequence[int]) -> int | None:
        """The length that rows of these lengths are padded to; None if they are not padded."""
        if self.padding is PaddingStrategy.DO_NOT_PAD:
            return None
        longest = (
            max(lengths) if self.padding is PaddingStrategy.LONGEST or self.max_length is None else self.max_length
        )
        multiple = self.pad_to_multiple_of or 1
        return -(-longest // multiple) * multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a call asks for, every default filled in."""

    limits: Limits
    add_special_tokens: bool
    is_split_into_words: bool
    split_special_tokens: bool
    return_tensors: TensorType | None
    return_token_type_ids: bool
    asks_token_type_ids: bool  # by name, not because the model takes them
    return_attention_mask: bool
    return_overflowing_tokens: bool
    return_special_tokens_mask: bool
    return_offsets_mapping: bool
    return_length: bool
    tokenize_options: Mapping[str, Any] = field(default_factory=dict)  # a family's own, for its text preparation


def resolve_limits(
    *,
    padding: bool | str,
    truncation: bool | str | None,
    max_length: int | None,
    model_max_length: int,
    stride: int = 0,
    pad_to_multiple_of: int | None = None,
    padding_side: Side = "right",
    truncation_side: Side = "right",
) -> Limits:
    """Reads `padding`, `truncation` and `max_length` as Hugging Face does.

    `max_length` alone truncates, longest text first; with padding asked for, it is a length to pad to.

    Raises:
        ValueError: an unknown strategy, or cutting to a `max_length` that `pad_to_multiple_of` does not divide.
    """
    if truncation is None and max_length is not None and padding is False:
        _log.warning("max_length is given without truncation: truncating, the longest text first (truncation=True)")
        truncation = True
    pad = PaddingStrategy.LONGEST if padding is True else PaddingStrategy(padding or PaddingStrategy.DO_NOT_PAD)
    cut = (
        TruncationStrategy.LONGEST_FIRST
        if truncation is True
        else TruncationStrategy(truncation or TruncationStrategy.DO_NOT_TRUNCATE)
    )
    cuts = cut is not TruncationStrategy.DO_NOT_TRUNCATE
    if max_length is None and (cuts or pad is PaddingStrategy.MAX_LENGTH):
        if model_max_length <= _HUGE:
            max_length = model_max_length
        else:
            _log.warning(
                "neither max_length nor the tokenizer's model_max_length is set: no truncation, no padding to it"
            )
            cut, cuts = TruncationStrategy.DO_NOT_TRUNCATE, False
            pad = PaddingStrategy.DO_NOT_PAD if pad is PaddingStrategy.MAX_LENGTH else pad
    pads = pad is not PaddingStrategy.DO_NOT_PAD
    if cuts and pads and pad_to_multiple_of and max_length is not None and max_length % pad_to_multiple_of:
        raise ValueError(
            f"truncating to max_length {max_length} and padding to a multiple of {pad_to_multiple_of} contradict each "
            f"other; use a max_length that is a multiple of it"
        )
    return Limits(
        padding=pad,
        truncation=cut,
        max_length=max_length,
        stride=stride,
        pad_to_multiple_of=pad_to_multiple_of,
        padding_side=padding_side,
        truncation_side=truncation_side,
    )


def read_texts(text: Any, text_pair: Any, *, is_split_into_words: bool) -> tuple[list[TextOrPair], bool]:
    """Gives the rows, and whether the call was for a batch.

    A row is a text and perhaps its pair. In a batch without `text_pair`, a tuple or list of two texts is a pair.

    Raises:
        ValueError: what was given is not text, is empty, or the numbers of texts differ.
        TypeError: one text as the pair of many.
    """
    _check_text("text", text)
    if text_pair is not None:
        _check_text("text_pair", text_pair)
    is_batch = not isinstance(text, str) and (not is_split_into_words or (bool(text) and not isinstance(text[0], str)))
    if not is_batch:
        return [(_as_text(text), None if text_pair is None else _as_text(text_pair))], False
    if isinstance(text_pair, str):
        raise TypeError("text is a batch, so text_pair must be a batch of the same length, not one str")
    if not text:
        raise ValueError("expected at least one text, found an empty batch")
    if text_pair is not None:
        if len(text) != len(text_pair):
            raise ValueError(f"expected as many texts as pairs, found {len(text)} texts and {len(text_pair)} pairs")
        return [(_as_text(a), _as_text(b)) for a, b in zip(text, text_pair, strict=True)], True
    return [_as_row(row, is_split_into_words) for row in text], True


def _as_row(row: Any, is_split_into_words: bool) -> TextOrPair:
    is_pair = not isinstance(row, str) and (not is_split_into_words or (bool(row) and not isinstance(row[0], str)))
    if not is_pair:
        return _as_text(row), None
    if len(row) != 2:
        raise ValueError(
            f"expected a text or a pair of texts in the batch, found a list of {len(row)}; "
            "for words use is_split_into_words=True"
        )
    return _as_text(row[0]), _as_text(row[1])


def _as_text(text: str | Sequence[str]) -> Text:
    return text if isinstance(text, str) else list(text)


def _check_text(name: str, text: Any) -> None:
    if not _is_text(text):
        raise ValueError(
            f"{name} must be a str, a list of str, or a list of lists of str, found {_describe(text)}; "
            "for token ids use prepare_for_model"
        )


def _is_text(text: Any, depth: int = 3) -> TypeGuard[Any]:
    """Whether it is text, or lists of it: of words, of pairs, of rows."""
    if isinstance(text, str):
        return True
    return depth > 0 and isinstance(text, list | tuple) and all(_is_text(part, depth - 1) for part in text)


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        kinds = sorted({type(part).__name__ for part in value})
        return f"a {type(value).__name__} of {', '.join(kinds)}"
    return f"a {type(value).__name__}"
