"""BERT's tokenizers: words by white space, punctuation and ideographs, then WordPiece.

`BertTokenizer` and `BertTokenizerFast` behave as the slow and the fast class of the same name in transformers v4.
"""

from __future__ import annotations

import os
from typing import Any

from models.tokenization.wordpiece_fast import WordPieceTokenizerFast
from models.tokenization.wordpiece_slow import WordPieceTokenizer


class BertTokenizer(WordPieceTokenizer):
    """BERT's tokenizer without offsets."""

    def __init__(self, *args: Any, clean_up_tokenization_spaces: bool = True, **options: Any) -> None:
        """Takes the arguments of `WordPieceTokenizer`; decoding also removes blanks before punctuation by default."""
        super().__init__(*args, clean_up_tokenization_spaces=clean_up_tokenization_spaces, **options)


class BertTokenizerFast(WordPieceTokenizerFast):
    """BERT's tokenizer with offsets, windows and words."""

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        *args: Any,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> None:
        """Takes the arguments of `WordPieceTokenizerFast`; without `tokenizer.json`, decoding is as BertTokenizer's."""
        cleans = tokenizer_file is None if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        super().__init__(vocab_file, tokenizer_file, *args, clean_up_tokenization_spaces=cleans, **options)
