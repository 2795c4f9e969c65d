"""Sequences of token ids: adding special tokens, truncating, padding. Everything about a call that needs no text."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from models.tokenization.arguments import (
    CallOptions,
    PaddingStrategy,
    Side,
    TensorType,
    TruncationStrategy,
    resolve_limits,
)
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.padding import Columns, collate, pad_rows
from models.tokenization.special_tokens import SpecialTokens
from models.tokenization.windows import SequenceLayout

_log = logging.getLogger(__name__)

Ids = list[int]


class IdSequences(SpecialTokens):
    """The part of a tokenizer that works on token ids; for a tokenizer to inherit."""

    model_input_names: Sequence[str] = ("input_ids", "token_type_ids", "attention_mask")
    model_max_length: int
    padding_side: Side
    truncation_side: Side

    @abstractmethod
    def _layout(self, *, pair: bool) -> SequenceLayout:
        """Where the special tokens of a sequence stand."""

    @abstractmethod
    def _call_options(self, **arguments: Any) -> CallOptions:
        """Reads the arguments of a call, and fills in the defaults."""

    # -- special tokens ------------------------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a text, or a pair, gets."""
        return self._layout(pair=pair).num_special

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of a text the model takes."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair the model takes."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def build_inputs_with_special_tokens(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """The ids of a text, or of a pair, with the special tokens around them."""
        layout = self._layout(pair=token_ids_1 is not None)
        return _interleave(layout.special_ids, _texts(token_ids_0, token_ids_1))

    def get_special_tokens_mask(
        self, token_ids_0: Ids, token_ids_1: Ids | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 for each special token of the built sequence, 0 for each token of the texts.

        Args:
            token_ids_0: ids of the text, without special tokens, or of the whole sequence if it has them already.
            token_ids_1: ids of the second text of a pair.
            already_has_special_tokens: find the special tokens by their ids.
        """
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError("with already_has_special_tokens=True give the whole sequence as token_ids_0 alone")
            special = set(self.all_special_ids)
            return [int(token in special) for token in token_ids_0]
        layout = self._layout(pair=token_ids_1 is not None)
        ones = [(1,) * len(run) for run in layout.special_ids]
        return _interleave(ones, [[0] * len(text) for text in _texts(token_ids_0, token_ids_1)])

    def create_token_type_ids_from_sequences(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> list[int]:
        """The token types of the built sequence; all zero for families that do not use them."""
        layout = self._layout(pair=token_ids_1 is not None)
        texts = _texts(token_ids_0, token_ids_1)
        types = [[kind] * len(text) for kind, text in zip(layout.text_types, texts, strict=True)]
        return _interleave(layout.special_types, types)

    # -- truncation ----------------------------------------------------------------------------------------------------

    def truncate_sequences(
        self,
        ids: Ids,
        pair_ids: Ids | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[Ids, Ids | None, Ids]:
        """Removes tokens from the end (or the start, by `truncation_side`) of one text or both.

        A single text that is not longer than what must go is left whole, with a line in the log.

        Returns:
            The two texts, and what was removed from a single text together with `stride` tokens before it.
        """
        if num_tokens_to_remove <= 0:
            return ids, pair_ids, []
        strategy = TruncationStrategy(truncation_strategy)
        if strategy is TruncationStrategy.LONGEST_FIRST and pair_ids is not None:
            from_first, from_second = _share_removal(len(ids), len(pair_ids), num_tokens_to_remove)
            return self._without(ids, from_first), self._without(pair_ids, from_second), []
        if strategy is TruncationStrategy.DO_NOT_TRUNCATE:
            return ids, pair_ids, []
        second = strategy is TruncationStrategy.ONLY_SECOND
        text = pair_ids if second else ids
        if text is None or len(text) <= num_tokens_to_remove:
            _log.error(
                "the %s text has %s tokens, %d must go: not truncated; use another truncation strategy or max_length",
                "second" if second else "first",
                "no" if text is None else len(text),
                num_tokens_to_remove,
            )
            return ids, pair_ids, []
        removed = min(len(text), num_tokens_to_remove + stride)
        overflowing = text[:removed] if self.truncation_side == "left" else text[-removed:]
        shorter = self._without(text, num_tokens_to_remove)
        return (ids, shorter, overflowing) if second else (shorter, pair_ids, overflowing)

    def _without(self, ids: Ids, count: int) -> Ids:
        return ids[count:] if self.truncation_side == "left" else ids[: max(0, len(ids) - count)]

    # -- whole rows ----------------------------------------------------------------------------------------------------

    def prepare_for_model(
        self, ids: Ids, pair_ids: Ids | None = None, *, prepend_batch_axis: bool = False, **options: Any
    ) -> BatchEncoding:
        """Truncates token ids, adds special tokens and pads; `options` are those of a call on text.

        Tensors are without an axis for the batch unless `prepend_batch_axis` asks for it.
        """
        call = self._call_options(**options)
        return self._finish_row(self._build_row(ids, pair_ids, call), call, prepend_batch_axis=prepend_batch_axis)

    def _build_row(self, ids: Ids, pair_ids: Ids | None, call: CallOptions) -> Columns:
        """One row of columns, truncated and with special tokens, not padded."""
        _refuse_undefined(call, is_pair=pair_ids is not None)
        special = call.add_special_tokens
        ids, pair_ids, overflowing, excess = self._truncate_row(ids, pair_ids, call)
        sequence = self.build_inputs_with_special_tokens(ids, pair_ids) if special else ids + (pair_ids or [])
        zeros = [0] * len(sequence)
        row: Columns = {"input_ids": sequence}
        if call.return_token_type_ids:
            row["token_type_ids"] = self.create_token_type_ids_from_sequences(ids, pair_ids) if special else zeros
        if call.return_special_tokens_mask:
            row["special_tokens_mask"] = self.get_special_tokens_mask(ids, pair_ids) if special else zeros
        if call.return_attention_mask:
            row["attention_mask"] = [1] * len(sequence)
        if call.return_overflowing_tokens:
            row |= {"overflowing_tokens": overflowing, "num_truncated_tokens": excess}
        return row

    def _truncate_row(self, ids: Ids, pair_ids: Ids | None, call: CallOptions) -> tuple[Ids, Ids | None, Ids, int]:
        """The ids as far as the limits allow, what was cut off, and by how many tokens the row is too long."""
        limits = call.limits
        num_special = self.num_special_tokens_to_add(pair_ids is not None) if call.add_special_tokens else 0
        total = len(ids) + len(pair_ids or ()) + num_special
        excess = 0 if limits.max_length is None else total - limits.max_length
        if limits.truncation is TruncationStrategy.DO_NOT_TRUNCATE or not limits.max_length:
            return ids, pair_ids, [], excess
        return *self.truncate_sequences(ids, pair_ids, excess, limits.truncation, limits.stride), excess

    def _finish_rows(self, rows: Sequence[Columns], call: CallOptions) -> BatchEncoding:
        """Puts the rows of a batch together: pads, and makes tensors if asked."""
        columns: Columns = {name: [row[name] for row in rows] for name in rows[0]}
        if call.return_length:
            columns["length"] = [len(ids) for ids in columns["input_ids"]]
        return BatchEncoding(self._pad_rows(columns, call), tensor_type=call.return_tensors)

    def _finish_row(self, row: Columns, call: CallOptions, *, prepend_batch_axis: bool) -> BatchEncoding:
        """The same for one text; its length counts the padding."""
        padded = {name: column[0] for name, column in self._pad_rows({k: [v] for k, v in row.items()}, call).items()}
        if call.return_length:
            padded["length"] = len(padded["input_ids"])
        return BatchEncoding(padded, tensor_type=call.return_tensors, prepend_batch_axis=prepend_batch_axis)

    def _pad_rows(self, columns: Columns, call: CallOptions) -> Columns:
        if call.limits.max_length is None:
            self._warn_if_too_long(max(len(ids) for ids in columns["input_ids"]))
        return pad_rows(columns, "input_ids", call.limits, self._fill_values())

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: TensorType | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pads one encoding, a batch, or a list of encodings, to one length.

        Rows may be lists, numpy arrays or torch tensors; tensors come back as they came, or as `return_tensors` says.

        Raises:
            ValueError: no `input_ids`, columns of different numbers of rows, or no pad token.
        """
        main = self.model_input_names[0]
        if not isinstance(encoded_inputs, Mapping) and not encoded_inputs:
            raise ValueError(f"expected at least one encoding with {main}, found an empty list")
        columns, tensor_type = collate(encoded_inputs)
        if main not in columns:
            raise ValueError(
                f"expected an encoding with {main}, found the columns {', '.join(sorted(columns)) or '(none)'}"
            )
        if not columns[main]:
            return BatchEncoding(columns | ({"attention_mask": []} if return_attention_mask else {}))
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self.model_input_names
        limits = resolve_limits(
            padding=padding,
            truncation=False,
            max_length=max_length,
            model_max_length=self.model_max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side or self.padding_side,
        )
        if limits.padding is not PaddingStrategy.DO_NOT_PAD:
            self._require_pad_token()
        is_batch = isinstance(columns[main][0], list)
        if not is_batch:
            columns = {name: [column] for name, column in columns.items()}
        num_rows = {name: len(column) for name, column in columns.items()}
        if len(set(num_rows.values())) > 1:
            raise ValueError(f"expected columns with the same number of rows, found {num_rows}")
        if return_attention_mask and "attention_mask" not in columns:
            columns["attention_mask"] = [[1] * len(row) for row in columns[main]]
        columns = pad_rows(columns, main, limits, self._fill_values())
        if not is_batch:
            columns = {name: column[0] for name, column in columns.items()}
        return BatchEncoding(columns, tensor_type=return_tensors or tensor_type)

    def _fill_values(self) -> dict[str, int]:
        """What each column is padded with; a family adds its own columns."""
        pad_id = self.pad_token_id
        return {
            "input_ids": 0 if pad_id is None else pad_id,
            "attention_mask": 0,
            "token_type_ids": self.pad_token_type_id,
            "special_tokens_mask": 1,
        }

    def _require_pad_token(self) -> str:
        if self.pad_token is None:
            raise ValueError(
                "padding needs a pad token and this tokenizer has none: set tokenizer.pad_token, "
                "or add one with tokenizer.add_special_tokens({'pad_token': '[PAD]'})"
            )
        return self.pad_token

    _warned_too_long = False

    def _warn_if_too_long(self, num_tokens: int) -> None:
        if num_tokens > self.model_max_length and not self._warned_too_long:
            self._warned_too_long = True
            _log.warning(
                "a sequence of %d tokens is longer than the model takes: %d", num_tokens, self.model_max_length
            )


def _refuse_undefined(call: CallOptions, *, is_pair: bool) -> None:
    if call.asks_token_type_ids and not call.add_special_tokens:
        raise ValueError(
            "token types of a sequence without special tokens are not defined: "
            "use add_special_tokens=True or return_token_type_ids=None"
        )
    if call.return_overflowing_tokens and is_pair and call.limits.truncation is TruncationStrategy.LONGEST_FIRST:
        raise ValueError(
            "no list of overflowing tokens for a pair truncated by longest_first, as they come from both texts; "
            "use truncation='only_first' or 'only_second', or a fast tokenizer"
        )


def _texts(first: Ids, second: Ids | None) -> list[Ids]:
    return [first] if second is None else [first, second]


def _interleave(runs: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> Ids:
    """Run, text, run, text, ..., run."""
    sequence = list(runs[0])
    for text, run in zip(texts, runs[1:], strict=True):
        sequence += text
        sequence += run
    return sequence


def _share_removal(num_first: int, num_second: int, to_remove: int) -> tuple[int, int]:
    """How many tokens go from each text of a pair: first what the longer one has more, then half and half."""
    difference = min(abs(num_first - num_second), to_remove)
    half = (to_remove - difference) // 2
    odd = to_remove - difference - half  # an odd one goes from the second
    return (difference + half, odd) if num_first > num_second else (half, difference + odd)
