"""Flat arrays and offsets for a slow WordPiece tokenizer, for a family that has no fast one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from unicodedata import combining, normalize

import numpy as np
import numpy.typing as npt

from models.tokenization.basic_text import clean, is_ideograph, is_punctuation, lower_each, may_compose
from models.tokenization.characters import CharacterTable, Kind, ReadCharacter
from models.tokenization.flat_pieces import FlatWords, encode_texts, find_texts
from models.tokenization.flat_tokenizer import FlatTokenizer
from models.tokenization.memo import PieceMemo, one_by_one
from models.tokenization.windows import FlatTokens
from models.tokenization.wordpiece import CONTINUES, Piece
from models.tokenization.wordpiece_slow import WordPieceTokenizer


class FlatWordPieceTokenizer(WordPieceTokenizer, FlatTokenizer):
    """Encodes texts whose characters can be read one by one from tables, the others word by word."""

    @property
    def continuing_subword_prefix(self) -> str:
        """What marks a piece that continues a word."""
        return CONTINUES

    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        return encode_texts(
            texts, self._flat_words, self._needs_words(texts), self._flat_tokens_by_words, with_offsets=with_offsets
        )

    # -- from tables ---------------------------------------------------------------------------------------------------

    @cached_property
    def _flat_words(self) -> FlatWords:
        return FlatWords(CharacterTable(self._read_character), PieceMemo(one_by_one(self._cut_word)))

    def _needs_words(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Marks the texts [M] that may have added tokens or words in them that are never split."""
        strings = [*self.added_tokens_encoder, *self._basic.never_split]
        found = find_texts(texts, strings)
        changed = [string for string in strings if not self._lowers or string == string.lower()]
        if changed:  # may turn up once the text is changed
            found |= find_texts(list(map(lower_each, texts)), changed)
            found |= find_texts(self._flat_words.normalized(texts), changed)
        return found

    def _read_character(self, char: str) -> list[ReadCharacter] | None:
        """What `tokenize` makes of a character; None if that depends on its neighbours."""
        if not self.do_basic_tokenize:
            return [ReadCharacter(char, Kind.BLANK if char.isspace() else Kind.IN_WORD)]
        cleaned = clean(lower_each(char) if self._lowers else char)
        becomes = self._basic.fold(normalize("NFC", cleaned))
        if any(map(combining, becomes) if self._basic.strips_accents else map(may_compose, cleaned)):
            return None
        is_alone = self._basic.tokenize_chinese_chars and any(map(is_ideograph, cleaned))
        return [self._read_normalized(part, is_alone=is_alone or is_punctuation(part)) for part in becomes]

    def _read_normalized(self, char: str, *, is_alone: bool) -> ReadCharacter:
        if char.isspace():
            return ReadCharacter(char, Kind.BLANK)
        if is_alone:
            return ReadCharacter(char, Kind.ALONE, self._cut_word(char)[0])
        return ReadCharacter(char, Kind.IN_WORD)

    def _cut_word(self, word: str) -> list[int]:
        pieces = self._wordpiece.pieces(word)
        return [number for token, start, end in pieces for number in (self._known_id(token), start, end)]

    # -- word by word --------------------------------------------------------------------------------------------------

    def _flat_tokens_by_words(self, texts: Sequence[str]) -> FlatTokens:
        rows = [self._pieces_of_text(text) for text in texts]
        pieces = [(self._known_id(token), start, end) for row in rows for token, start, end in row]
        flat = np.array(pieces, dtype=np.int32).reshape(-1, 3)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return FlatTokens(ids=flat[:, 0], lengths=lengths, offsets=flat[:, 1:])

    def _pieces_of_text(self, text: str) -> list[Piece]:
        """The tokens of a text, those that `tokenize` gives, with their places."""
        prepared = self._prepare_text(text, is_split_into_words=False)
        sources = _sources_of_lowered(text, prepared)
        pieces: list[Piece] = []
        end = 0
        added = {} if self.split_special_tokens else self.added_tokens_encoder
        for part in self._split_added_tokens(prepared) if added else [prepared]:
            start = prepared.index(part, end)  # white space may be left out in between
            end = start + len(part)
            found = [(part, 0, len(part))] if part in added else self._pieces_of_part(part)
            pieces += [(token, sources[start + a], sources[start + b - 1] + 1) for token, a, b in found]
        return pieces

    def _pieces_of_part(self, text: str) -> list[Piece]:
        """The same for text without added tokens: words and text are aligned by their decomposed characters."""
        sources = [place for place, char in enumerate(text) for _ in self._visible(char)]
        pieces: list[Piece] = []
        before = 0
        for word in self._words(text):
            ends = list(accumulate((len(normalize("NFD", char)) for char in word), initial=before))
            for token, start, end in self._pieces_of_word(word):
                pieces.append((token, sources[ends[start]], sources[ends[end] - 1] + 1))
            before = ends[-1]
        return pieces

    def _visible(self, char: str) -> str:
        if self.do_basic_tokenize:
            return self._basic.visible(char)
        return "" if char.isspace() else normalize("NFD", char)


def _sources_of_lowered(text: str, lowered: str) -> Sequence[int]:
    """The place in the text of each character of the lowered text, which may have more of them."""
    if len(text) == len(lowered):
        return range(len(text))
    sources: list[int] = []
    for place, char in enumerate(text):
        low = char.lower()
        sources += [place] * (len(low) if lowered.startswith(low, len(sources)) else 1)
    return sources
