"""Offsets of byte-level tokens, computed from their lengths.

A byte-level token stands for a fixed run of bytes, so where no byte of a text was dropped or added, the tokens' places
follow from their ids alone. That is several times faster than asking the Rust library for each token's offsets.

Legend: M texts, T tokens of theirs, V ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from models.tokenization.byte_level import to_bytes
from models.tokenization.windows import FlatTokens

_BLANK = "Ġ"  # the byte of the blank, in the alphabet of byte-level BPE


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteSpans:
    """What the ids of a byte-level vocabulary stand for."""

    num_bytes: npt.NDArray[np.int32]  # [V]
    leading: npt.NDArray[np.int32]  # [V] blanks at the start that a token's span leaves out
    trailing: npt.NDArray[np.int32]  # [V] the same at its end

    @classmethod
    def of(cls, vocabulary: Mapping[str, int], added: Mapping[str, int], *, trim: bool) -> Self:
        """Measures every token.

        Args:
            vocabulary: token -> id, added tokens included.
            added: token -> id, of the tokens that stand for themselves and not for bytes.
            trim: leave blanks out of the spans.
        """
        size = max(vocabulary.values(), default=-1) + 1
        num_bytes, leading, trailing = (np.zeros(size, dtype=np.int32) for _ in range(3))
        for token, i in vocabulary.items():
            num_bytes[i] = len(token.encode("utf-8") if token in added else to_bytes(token))
            if trim:
                leading[i] = len(token) - len(token.lstrip(_BLANK))
                trailing[i] = len(token) - len(token.rstrip(_BLANK))
        return cls(num_bytes=num_bytes, leading=leading, trailing=trailing)

    def locate(self, texts: Sequence[str], tokens: FlatTokens) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Gives the offsets of tokens in code points [T, 2], and for which texts they are right [M].

        They are wrong where the tokens leave bytes out: unknown ones, or blanks that a special token took.
        """
        encoded = [text.encode("utf-8") for text in texts]
        buffer = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        row_bytes = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))

        token_ends = np.zeros(len(tokens.ids) + 1, dtype=np.int64)
        np.cumsum(self.num_bytes[tokens.ids], out=token_ends[1:])
        bounds = np.concatenate([[0], np.cumsum(tokens.lengths)])
        is_right = np.diff(token_ends[bounds]) == row_bytes
        if len(buffer) == 0:
            return np.zeros((len(tokens.ids), 2), dtype=np.int32), is_right

        # Bytes count from the start of the buffer; the shift takes out what wrong rows before have too few.
        byte_starts = np.cumsum(row_bytes) - row_bytes
        shift = np.repeat(byte_starts - token_ends[bounds[:-1]], tokens.lengths)
        starts, ends = token_ends[:-1] + shift, token_ends[1:] + shift
        last = len(buffer) - 1
        char_of_byte = np.cumsum((buffer & 0xC0) != 0x80, dtype=np.int32) - 1  # other bytes continue a character
        first_char = np.repeat(char_of_byte[np.minimum(byte_starts, last)], tokens.lengths)
        start = char_of_byte[np.minimum(starts, last)] - first_char
        end = char_of_byte[np.clip(ends - 1, 0, last)] - first_char + 1
        start = np.minimum(start + self.leading[tokens.ids], end)
        end = np.maximum(end - self.trailing[tokens.ids], start)
        return np.stack([start, end], axis=1), is_right
