"""What a tokenizer call returns: columns by name, and what the fast tokenizers know of tokens, words and characters."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from tokenizers import Encoding

from models.tokenization.arguments import TensorType


class CharSpan(NamedTuple):
    """Characters start up to, not including, end of the original text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens start up to, not including, end of a row."""

    start: int
    end: int


class BatchEncoding(UserDict[str, Any]):
    """Columns (`input_ids`, `attention_mask`, ...) by key or attribute; each a list, a list of lists or a tensor.

    An integer key gives the `Encoding` of a row. The methods about tokens, words and characters need a fast tokenizer;
    they take `(index)` in the only row or `(row, index)`. Rows are those of the columns, so windows count on their own.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: TensorType | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        super().__init__(data)
        self._encodings = [encoding] if isinstance(encoding, Encoding) else list(encoding) if encoding else None
        self._n_sequences = n_sequences
        if n_sequences is None and self._encodings:
            self._n_sequences = self._encodings[0].n_sequences
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return self.data[key]
        if isinstance(key, slice):
            return {name: column[key] for name, column in self.data.items()}
        return self._rows[key]

    def __getattr__(self, name: str) -> Any:
        columns = self.__dict__.get("data", {})  # not there yet while an object is being copied
        if name not in columns:
            raise AttributeError(f"no column or attribute {name!r}; columns: {', '.join(columns)}")
        return columns[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self._encodings, None, False, self._n_sequences)

    @property
    def is_fast(self) -> bool:
        """Whether it came from a fast tokenizer, so that it knows of tokens, words and characters."""
        return self._encodings is not None

    @property
    def encodings(self) -> list[Encoding] | None:
        """The rows as the `tokenizers` library gives them; None from a slow tokenizer."""
        return self._encodings

    @property
    def n_sequences(self) -> int | None:
        """1 for texts, 2 for pairs; None from a slow tokenizer."""
        return self._n_sequences

    @property
    def _rows(self) -> list[Encoding]:
        if self._encodings is None:
            raise ValueError("tokens, words and characters are known to the fast tokenizers only; use a *TokenizerFast")
        return self._encodings

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return list(self._rows[batch_index].tokens)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token 0 or 1, the text of the pair it is from; None for special tokens."""
        return list(self._rows[batch_index].sequence_ids)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token the word it is from; None for special tokens."""
        return list(self._rows[batch_index].word_ids)

    def words(self, batch_index: int = 0) -> list[int | None]:
        """The same as `word_ids`."""
        return self.word_ids(batch_index)

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The text of the pair that a token is from."""
        row, token = self._locate_token(batch_or_token_index, token_index)
        return row.token_to_sequence(token)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The word that a token is from."""
        row, token = self._locate_token(batch_or_token_index, token_index)
        return row.token_to_word(token)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters of the original text that a token stands for."""
        row, token = self._locate_token(batch_or_token_index, token_index)
        span = row.token_to_chars(token)
        return None if span is None else CharSpan(*span)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word."""
        row, word = self._locate(batch_or_word_index, word_index)
        span = row.word_to_tokens(word, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word in the original text."""
        row, word = self._locate(batch_or_word_index, word_index)
        span = row.word_to_chars(word, sequence_index)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that stands for a character; None if there is none (white space)."""
        row, char = self._locate(batch_or_char_index, char_index)
        return row.char_to_token(char, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word that a character is in."""
        row, char = self._locate(batch_or_char_index, char_index)
        return row.char_to_word(char, sequence_index)

    def _locate(self, batch_or_index: int, index: int | None) -> tuple[Encoding, int]:
        return (self._rows[0], batch_or_index) if index is None else (self._rows[batch_or_index], index)

    def _locate_token(self, batch_or_index: int, index: int | None) -> tuple[Encoding, int]:
        row, token = self._locate(batch_or_index, index)
        return row, token + len(row) if token < 0 else token

    def convert_to_tensors(self, tensor_type: TensorType | None = None, prepend_batch_axis: bool = False) -> Self:
        """Turns the columns into torch tensors ("pt") or numpy arrays ("np") of int64, in place.

        Raises:
            ValueError: an unknown `tensor_type`, or rows of different lengths.
        """
        if tensor_type is None:
            return self
        if tensor_type not in ("pt", "np"):
            raise ValueError(f'return_tensors must be "pt", "np" or None, found {tensor_type!r}')
        for name, column in self.items():
            self[name] = _as_tensor(name, [column] if prepend_batch_axis else column, tensor_type)
        return self

    def to(self, device: str | int | torch.device, *, non_blocking: bool = False) -> Self:
        """Moves the tensors to a device, in place; other columns stay as they are."""
        for name, column in self.items():
            if isinstance(column, torch.Tensor):
                self[name] = column.to(device, non_blocking=non_blocking)
        return self


def _as_tensor(name: str, column: Any, tensor_type: TensorType) -> Any:
    if isinstance(column, torch.Tensor):
        return column if tensor_type == "pt" else column.numpy(force=True)
    try:
        array = np.asarray(column)
        if array.dtype == object:
            raise ValueError("rows differ in length")
    except ValueError as error:
        raise ValueError(
            f"column {name} is no tensor: its rows differ in length ({error}); use padding=True, and truncation=True "
            "if rows may be too long"
        ) from error
    if array.size == 0:  # numpy cannot tell from no numbers that they are ids
        array = array.astype(np.int64)
    return torch.from_numpy(array) if tensor_type == "pt" else array
