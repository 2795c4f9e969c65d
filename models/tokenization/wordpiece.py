"""WordPiece: the vocabulary file `vocab.txt`, and cutting a word into the longest pieces that the vocabulary has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from models.errors import TokenizerError
from models.tokenization.files import read_json

VOCAB_FILE = "vocab.txt"
CONTINUES = "##"  # before a piece that continues a word

Piece = tuple[str, int, int]
"""A token of a word, and start and end of the characters of the word that it stands for."""


class WordPiece:
    """Cuts words greedily, the longest piece first; a word that cannot be cut, or is too long, is one unknown token."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        unk_token: str,
        *,
        max_input_chars_per_word: int = 100,
        continuing_subword_prefix: str = CONTINUES,
    ) -> None:
        self._vocabulary = vocabulary
        self._unk_token = unk_token
        self._longest_word = max_input_chars_per_word
        self._prefix = continuing_subword_prefix
        # How long the tokens are at most that begin, or continue, with a character: no longer ones need be tried.
        self._longest_start: dict[str, int] = {}
        self._longest_end: dict[str, int] = {}
        for token in vocabulary:
            _note_longest(self._longest_start, token)
            if token.startswith(continuing_subword_prefix):
                _note_longest(self._longest_end, token.removeprefix(continuing_subword_prefix))

    def pieces(self, word: str) -> list[Piece]:
        """The pieces of a word, which has no white space."""
        unknown = [(self._unk_token, 0, len(word))]
        if len(word) > self._longest_word:
            return unknown
        vocabulary = self._vocabulary
        pieces: list[Piece] = []
        start, prefix, longest = 0, "", self._longest_start
        while start < len(word):
            end = min(len(word), start + longest.get(word[start], 0))
            while end > start and (token := prefix + word[start:end]) not in vocabulary:
                end -= 1
            if end == start:
                return unknown
            pieces.append((token, start, end))
            start, prefix, longest = end, self._prefix, self._longest_end
        return pieces


def _note_longest(longest: dict[str, int], token: str) -> None:
    first = token[:1]
    longest[first] = max(len(token), longest.get(first, 0))


def read_vocabulary(
    vocab_file: str | os.PathLike[str] | None, tokenizer_file: str | os.PathLike[str] | None = None
) -> dict[str, int]:
    """Reads token -> id from `vocab.txt`, or where that is missing from `tokenizer.json`.

    The id is the number of the line; of a token that stands there twice, the last one.

    Raises:
        TokenizerError: neither is there, or it cannot be read.
    """
    if vocab_file is not None:
        try:
            lines = Path(vocab_file).read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError) as error:
            raise TokenizerError(f"{vocab_file}: expected one token per line in UTF-8, found: {error}") from error
        if not lines[-1]:
            del lines[-1]
        return {token: i for i, token in enumerate(lines)}
    if tokenizer_file is None:
        raise TokenizerError(
            f"expected {VOCAB_FILE} or tokenizer.json in the model's folder, found neither; "
            "fetch the model's files again"
        )
    model = read_json(Path(tokenizer_file)).get("model", {})
    if model.get("type") != "WordPiece":
        raise TokenizerError(f"{tokenizer_file}: expected a WordPiece model, found {model.get('type')!r}")
    vocabulary: dict[str, int] = model["vocab"]
    return vocabulary


def write_vocabulary(vocabulary: Mapping[str, int], directory: str, prefix: str | None) -> str:
    """Writes `vocab.txt`; returns its path.

    An id without a token gets the line of the token after it, which reading takes for its last line: no id moves.
    """
    path = Path(directory) / f"{prefix}-{VOCAB_FILE}" if prefix else Path(directory) / VOCAB_FILE
    lines: list[str] = []
    for token, token_id in sorted(vocabulary.items(), key=lambda item: item[1]):
        lines += [token] * (token_id + 1 - len(lines))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)
