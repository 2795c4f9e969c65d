"""What the pipeline asks of a tokenizer: texts to flat arrays, with windows and offsets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.tokenization.base import PreTrainedTokenizerBase
from models.tokenization.flat import FlatEncoding
from models.tokenization.windows import FlatTokens, lay_out


class FlatTokenizer(PreTrainedTokenizerBase):
    """A tokenizer that jobs can use."""

    def encode_flat(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        stride: int = 0,
        overflow: bool = True,
        offsets: bool = False,
    ) -> FlatEncoding:
        """Encodes texts (or pairs) to flat arrays, without padding: what the pipeline uses.

        Args:
            texts: the M texts.
            pairs: the second text of each pair.
            max_length: tokens in a sequence, special ones included; None means no limit.
            stride: tokens that neighbouring windows of a long text share.
            overflow: cut longer texts into windows, of a pair the longer text first; False drops the end instead.
            offsets: also give each token's place in its text and the mask of special tokens.

        Raises:
            ValueError: no room for text within `max_length`, a `stride` that leaves no room to move on, or not as many
                pairs as texts.
        """
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"expected as many pairs as texts, found {len(pairs)} pairs and {len(texts)} texts")
        sides = [texts] if pairs is None else [texts, pairs]
        tokens = [self._flat_tokens(side, with_offsets=offsets) for side in sides]
        layout = self._layout(pair=pairs is not None)
        return lay_out(tokens, layout, max_length=max_length, stride=stride, overflow=overflow)

    @abstractmethod
    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        """The tokens of texts, without special tokens around them."""

    @property
    @abstractmethod
    def continuing_subword_prefix(self) -> str:
        """What marks a piece that continues a word ("##" for WordPiece); empty where the start of a word is marked."""

    @cached_property
    def token_lengths(self) -> npt.NDArray[np.int32]:
        """[V] length of each token's string in characters; 0 for an id without a token."""
        vocabulary = self.get_vocab()
        lengths = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.int32)
        for token, token_id in vocabulary.items():
            lengths[token_id] = len(token)
        return lengths
