"""BERT's cleaning and splitting of text, in Python, as Hugging Face's slow classes do it."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from itertools import groupby

# Blocks of ideographs. Kana and Hangul are not among them: they write words.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_HANGUL_ENDINGS = (("\u1161", "\u1175"), ("\u11a8", "\u11c2"))  # of a syllable that is written in parts
_ASCII_PUNCTUATION = frozenset(r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""")


def is_ideograph(char: str) -> bool:
    """Whether it is a Chinese character, which is a word of its own."""
    return any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)


def is_punctuation(char: str) -> bool:
    """Whether it is punctuation; all of ASCII that is neither letter, digit, white space nor control is."""
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")


def clean(text: str) -> str:
    """Without control, format, private and unassigned characters; white space becomes blanks."""
    return "".join(" " if _is_blank(char) else char for char in text if not _is_dropped(char))


def strip_accents(text: str) -> str:
    """Decomposed, without the marks that take no space of their own."""
    return "".join(char for char in unicodedata.normalize("NFD", text) if not is_accent(char))


def is_accent(char: str) -> bool:
    """Whether it is a mark that takes no space of its own."""
    return unicodedata.category(char) == "Mn"


def may_compose(char: str) -> bool:
    """Whether normalisation may join it with the character before, or change places with it: marks, and Hangul."""
    return unicodedata.category(char).startswith("M") or any(first <= char <= last for first, last in _HANGUL_ENDINGS)


def lower_each(text: str) -> str:
    """Lower case, one character at a time: a sigma at the end of a word is like any other."""
    return text.lower() if "Σ" not in text else "".join(map(str.lower, text))


class BasicTokenizer:
    """Cuts text into words: at white space and punctuation, with every ideograph a word of its own."""

    def __init__(
        self,
        *,
        do_lower_case: bool = True,
        never_split: Collection[str] | None = None,
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
    ) -> None:
        """Sets what changes.

        Args:
            do_lower_case: lower the words.
            never_split: words that stay as they are, if white space stands around them.
            tokenize_chinese_chars: cut around ideographs.
            strip_accents: remove accents; None means if the words are lowered.
        """
        self.do_lower_case = do_lower_case
        self.never_split = frozenset(never_split or ())
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.strips_accents = do_lower_case if strip_accents is None else strip_accents

    def words(self, text: str, never_split: Collection[str] = ()) -> Iterator[str]:
        """The words of a text, normalised."""
        text = clean(text)
        if self.tokenize_chinese_chars:
            text = "".join(f" {char} " if is_ideograph(char) else char for char in text)
        whole = self.never_split.union(never_split)
        for word in unicodedata.normalize("NFC", text).split():
            folded = word if word in whole else self.fold(word)
            yield from [folded] if folded in whole else _split_punctuation(folded)

    def fold(self, text: str) -> str:
        """Lowers and strips accents, as far as is set."""
        text = text.lower() if self.do_lower_case else text
        return strip_accents(text) if self.strips_accents else text

    def visible(self, char: str) -> str:
        """What of a character is in the words of a text, decomposed; nothing of a blank."""
        kept = unicodedata.normalize("NFD", clean(char))
        return "".join(part for part in kept if not (part.isspace() or (self.strips_accents and is_accent(part))))


def _split_punctuation(word: str) -> Iterator[str]:
    for is_mark, chars in groupby(word, is_punctuation):
        if is_mark:
            yield from chars
        else:
            # Decomposing may have brought white space.
            yield from "".join(chars).split()


def _is_dropped(char: str) -> bool:
    return char not in "\t\n\r" and (unicodedata.category(char).startswith("C") or char == "\ufffd")


def _is_blank(char: str) -> bool:
    return char in "\t\n\r" or unicodedata.category(char) == "Zs"
