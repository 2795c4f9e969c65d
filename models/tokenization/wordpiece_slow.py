"""The slow tokenizers over a WordPiece vocabulary: what BERT, RoFormer and RoCBert share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, ClassVar

from tokenizers import AddedToken

from models.tokenization.basic_text import BasicTokenizer, lower_each
from models.tokenization.files import TOKENIZER_FILE
from models.tokenization.slow import PreTrainedTokenizer
from models.tokenization.windows import SequenceLayout
from models.tokenization.wordpiece import CONTINUES, VOCAB_FILE, Piece, WordPiece, read_vocabulary, write_vocabulary


class WordPieceTokenizer(PreTrainedTokenizer):
    """Words by BERT's rules, then WordPiece; `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]` with token types 0 and 1."""

    vocab_files_names: ClassVar[Mapping[str, str]] = {"vocab_file": VOCAB_FILE, "tokenizer_file": TOKENIZER_FILE}

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        do_lower_case: bool = True,
        do_basic_tokenize: bool = True,
        never_split: Collection[str] | None = None,
        unk_token: str | AddedToken = "[UNK]",
        sep_token: str | AddedToken = "[SEP]",
        pad_token: str | AddedToken = "[PAD]",
        cls_token: str | AddedToken = "[CLS]",
        mask_token: str | AddedToken = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        *,
        tokenizer_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """Reads `vocab.txt`, or where that is missing `tokenizer.json`.

        Args:
            vocab_file: path of `vocab.txt`.
            do_lower_case: lower the text, special tokens excepted.
            do_basic_tokenize: clean the text and cut it at punctuation and ideographs; False cuts at white space only,
                and changes no character.
            never_split: words that stay as they are, if white space stands around them.
            unk_token: stands for a word that the vocabulary lacks.
            sep_token: stands after each text.
            pad_token: fills short rows of a batch.
            cls_token: stands first.
            mask_token: stands for a token to be predicted.
            tokenize_chinese_chars: cut around ideographs.
            strip_accents: remove accents; None means if the text is lowered.
            tokenizer_file: path of `tokenizer.json`.
            **options: those of the base class.
        """
        self._vocabulary = read_vocabulary(vocab_file, tokenizer_file)
        self.do_lower_case = do_lower_case
        self.do_basic_tokenize = do_basic_tokenize
        self._basic = BasicTokenizer(
            do_lower_case=do_lower_case,
            never_split=never_split,
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
        )
        super().__init__(
            do_lower_case=do_lower_case,
            do_basic_tokenize=do_basic_tokenize,
            never_split=never_split,
            unk_token=unk_token,
            sep_token=sep_token,
            pad_token=pad_token,
            cls_token=cls_token,
            mask_token=mask_token,
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            **options,
        )

    # -- text to tokens ------------------------------------------------------------------------------------------------

    @property
    def _lowers(self) -> bool:
        return self.do_basic_tokenize and self.do_lower_case

    def _prepare_text(self, text: str, *, is_split_into_words: bool) -> str:
        """Lowers all but special tokens, before added tokens are looked for."""
        if not self._lowers:
            return text
        as_written = [*self.all_special_tokens]
        as_written += [token.content for token in self._added.values() if token.normalized and not token.special]
        pieces = re.split(f"({'|'.join(map(re.escape, as_written))})", text) if as_written else [text]
        pieces[::2] = map(lower_each, pieces[::2])
        return "".join(pieces)

    def _as_stored(self, token: AddedToken) -> AddedToken:
        if token.special or not token.normalized or not self._lowers:
            return token
        return AddedToken(
            token.content.lower(),
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            single_word=token.single_word,
            normalized=True,
            special=False,
        )

    def _tokenize(self, text: str) -> list[str]:
        return [token for word in self._words(text) for token, _, _ in self._pieces_of_word(word)]

    def _words(self, text: str) -> list[str]:
        if not self.do_basic_tokenize:
            return text.split()
        return list(self._basic.words(text, never_split=self.all_special_tokens))

    def _pieces_of_word(self, word: str) -> list[Piece]:
        if self.do_basic_tokenize and word in self._basic.never_split:
            return [(word, 0, len(word))]
        return self._wordpiece.pieces(word)

    @cached_property
    def _wordpiece(self) -> WordPiece:
        return WordPiece(self._vocabulary, self.unk_token or "")

    # -- around the text -----------------------------------------------------------------------------------------------

    def _layout(self, *, pair: bool) -> SequenceLayout:
        cls, sep = self._known_id(self.cls_token or ""), self._known_id(self.sep_token or "")
        if pair:
            return SequenceLayout(
                special_ids=((cls,), (sep,), (sep,)), special_types=((0,), (0,), (1,)), text_types=(0, 1)
            )
        return SequenceLayout(special_ids=((cls,), (sep,)), special_types=((0,), (0,)), text_types=(0,))

    def _token_of(self, token_id: int) -> str | None:
        return self._tokens_by_id.get(token_id, self.unk_token)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens."""
        return " ".join(tokens).replace(f" {CONTINUES}", "").strip()

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes `vocab.txt`, without added tokens; returns its path."""
        return (write_vocabulary(self._vocabulary, save_directory, filename_prefix),)
