"""RoFormer's tokenizers: jieba's words where the vocabulary has them, WordPiece where it does not.

`RoFormerTokenizer` and `RoFormerTokenizerFast` behave as the slow and the fast class of the same name in transformers
v4, which differ: the slow one cuts the text as it stands and then normalises words that it does not know, the fast one
normalises first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer

from models.roformer.jieba import JiebaPreTokenizer, segments
from models.tokenization.characters import CharacterTable, Kind, ReadCharacter
from models.tokenization.flat_pieces import FlatPieces, FlatSegments
from models.tokenization.memo import PieceMemo, one_by_one
from models.tokenization.wordpiece_fast import WordPieceTokenizerFast
from models.tokenization.wordpiece_slow import WordPieceTokenizer


class RoFormerTokenizer(WordPieceTokenizer):
    """RoFormer's tokenizer without offsets."""

    def _tokenize(self, text: str) -> list[str]:
        return [token for segment in segments(text) for token in self._tokens_of_segment(segment)]

    @cached_property
    def _tokens_of_segment(self) -> Callable[[str], list[str]]:
        cut_unknown = super()._tokenize

        @lru_cache(maxsize=1 << 16)
        def cut(segment: str) -> list[str]:
            return [segment] if segment in self._vocabulary else cut_unknown(segment)

        return cut


class RoFormerTokenizerFast(WordPieceTokenizerFast):
    """RoFormer's tokenizer with offsets, windows and words.

    A `tokenizer.json` cannot name jieba; what it names instead is there for the library alone.
    """

    spaces_ideographs = False

    def __init__(self, *args: Any, **options: Any) -> None:
        """Takes the arguments of `WordPieceTokenizerFast`; `tokenize_chinese_chars` changes nothing here."""
        super().__init__(*args, **options)
        # What is saved and pickled never has jieba, so that both are possible at any time.
        self._backend.pre_tokenizer = BertPreTokenizer()

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer of the `tokenizers` library, with jieba; for encoding only."""
        return self._encoder(split_special_tokens=False)

    def _make_encoder(self, split_special_tokens: bool, assembles: bool) -> Tokenizer:
        encoder = super()._make_encoder(split_special_tokens, assembles)
        if encoder is self._backend:
            encoder = Tokenizer.from_str(self._backend.to_str())
        encoder.pre_tokenizer = PreTokenizer.custom(self._jieba)
        return encoder

    def _encode_each(
        self,
        encoder: Tokenizer,
        inputs: Sequence[Any],
        *,
        is_pretokenized: bool = False,
        add_special_tokens: bool,
        with_offsets: bool = True,
    ) -> list[Encoding]:
        """Encodes texts or pairs, or words of theirs."""
        # One by one, in the thread that calls. The library's threads would wait for Python's lock to run jieba, which
        # another thread may hold while it waits for them: to pad, for one.
        encodings = []
        for one in inputs:
            first, second = one if isinstance(one, tuple) else (one, None)
            encodings.append(
                encoder.encode(first, second, is_pretokenized=is_pretokenized, add_special_tokens=add_special_tokens)
            )
        return encodings

    @cached_property
    def _jieba(self) -> JiebaPreTokenizer:
        return JiebaPreTokenizer(self.get_vocab())

    # -- the pipeline's path -------------------------------------------------------------------------------------------

    @cached_property
    def _flat_pieces(self) -> FlatPieces | None:
        """None where the library does not read text as RoFormer does, or leaves line ends in it."""
        if not self._normalizes_as_bert or not self._normalizer.clean_text:
            return None
        return FlatSegments(CharacterTable(self._read_character), PieceMemo(one_by_one(self._cut_segment)), segments)

    def _read_character(self, char: str) -> list[ReadCharacter] | None:
        becomes = self._normalize_character(char)
        return None if becomes is None else [ReadCharacter(part, Kind.IN_WORD) for part in becomes]

    def _cut_segment(self, segment: str) -> list[int]:
        ids, wordpiece = self._vocabulary, self._wordpiece
        numbers: list[int] = []
        start = 0
        for piece in self._jieba.pieces(segment):
            for token, first, last in wordpiece.pieces(piece):
                numbers += (ids[token], start + first, start + last)
            start += len(piece)
        return numbers
