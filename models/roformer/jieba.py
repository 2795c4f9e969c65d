"""Cuts text into words with jieba's default dictionary, and words that the vocabulary lacks further.

The dictionary is one for the process: what `rjieba.add_word` changes holds for every tokenizer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

import rjieba
from tokenizers import NormalizedString, PreTokenizedString
from tokenizers.normalizers import BertNormalizer

_BLOCK_CHARS = 200


def segments(text: str) -> list[str]:
    """The segments of a text, end to end; no new words are guessed."""
    found: list[str] = rjieba.cut(text, False)
    return found


class JiebaPreTokenizer:
    """Cuts normalised text into the pieces that WordPiece cuts further, inside the Rust library."""

    def __init__(self, vocabulary: Container[str]) -> None:
        """Takes the tokens that are kept whole when jieba finds them."""
        self._vocabulary = vocabulary
        self._space_ideographs = BertNormalizer(clean_text=False, strip_accents=False, lowercase=False)

    def pieces(self, segment: str) -> list[str]:
        """The pieces of a segment: itself, or its ideographs and what stands between them and white space."""
        if segment in self._vocabulary:
            return [segment]
        return (segment if segment.isascii() else self._space_ideographs.normalize_str(segment)).split()

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Cuts in place; the library calls this by its name."""
        text.split(lambda _, part: list(self._split(part)))

    def _split(self, text: NormalizedString) -> Iterator[NormalizedString]:
        start = 0
        for block in _blocks(segments(str(text))):
            # To slice takes time in proportion to what is sliced: a long text is sliced into blocks, those into pieces.
            length = sum(map(len, block))
            part: Any = text[start : start + length]
            start += length
            segment_start = 0
            for segment in block:
                place = segment_start
                for piece in self.pieces(segment):
                    yield part[place : place + len(piece)]
                    place += len(piece)
                segment_start += len(segment)


def _blocks(found: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    length = 0
    for segment in found:
        block.append(segment)
        length += len(segment)
        if length >= _BLOCK_CHARS:
            yield block
            block, length = [], 0
    if block:
        yield block
