"""Tokenizers on the Rust library, with the behaviour of Hugging Face's fast classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.models import WordLevel

from models.errors import TokenizerError
from models.tokenization.files import TOKENIZER_FILE, read_arguments
from models.tokenization.flat import FlatEncoding
from models.tokenization.special_tokens import NAMES, SpecialTokens
from models.tokenization.windows import FlatTokens, SequenceLayout, lay_out


class PreTrainedTokenizerFast(SpecialTokens):
    """A tokenizer from any `tokenizer.json`; families whose files need more have a class of their own.

    Calls never change the Rust tokenizer, so one object serves several threads; it pickles, and forked processes can use it.
    """

    vocab_files_names: dict[str, str] = {"tokenizer_file": TOKENIZER_FILE}

    def __init__(
        self,
        *,
        tokenizer_file: str | os.PathLike[str] | None = None,
        tokenizer_object: Tokenizer | None = None,
        added_tokens_decoder: dict[int, AddedToken] | None = None,
        model_max_length: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        backend = tokenizer_object if tokenizer_object is not None else read_backend(tokenizer_file)
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.model_max_length = model_max_length or int(1e30)
        for role in NAMES:
            self._set_special_token(role, options.pop(role, None))
        self.additional_special_tokens = options.pop("additional_special_tokens", None)
        self._add_missing_tokens(added_tokens_decoder or {})

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], *, revision: str | None = None, **options: Any) -> Self:
        folder = Path(path)
        files = {name: folder / file for name, file in cls.vocab_files_names.items() if (folder / file).exists()}
        return cls(**{**files, **read_arguments(folder), **options})

    def _add_missing_tokens(self, declared: dict[int, AddedToken]) -> None:
        """Adds what the config declares, and the special tokens, where the backend does not have them yet."""
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        wanted = [declared[i] for i in sorted(declared)] + self.all_special_tokens_extended
        missing = {token.content: token for token in reversed(wanted) if token.content not in known}
        for special, tokens in groupby(reversed(missing.values()), key=lambda token: token.special):
            if special:
                self._backend.add_special_tokens(list(tokens))
            else:
                self._backend.add_tokens(list(tokens))

    def _id_of(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def _token_of(self, token_id: int) -> str | None:
        return self._backend.id_to_token(token_id)

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def continuing_subword_prefix(self) -> str:
        """What marks a piece that continues a word ("##" for WordPiece); empty where the start of a word is marked."""
        return getattr(self._backend.model, "continuing_subword_prefix", None) or ""

    @cached_property
    def token_lengths(self) -> npt.NDArray[np.int32]:
        """[V] length of each token's string in characters; 0 for an id without a token."""
        lengths = np.zeros(max(self.get_vocab().values(), default=-1) + 1, dtype=np.int32)
        for token, token_id in self.get_vocab().items():
            lengths[token_id] = len(token)
        return lengths

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self._backend.num_special_tokens_to_add(pair)

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
            ValueError: no room for text within `max_length`, or `stride` does not leave room to move on.
        """
        sides = [texts] if pairs is None else [texts, pairs]
        tokens = [self._flat_tokens(side, offsets) for side in sides]
        layout = _probe_layout(self._backend, pair=pairs is not None)
        return lay_out(tokens, layout, max_length=max_length, stride=stride, overflow=overflow)

    def _flat_tokens(self, texts: Sequence[str], with_offsets: bool) -> FlatTokens:
        # Tracking offsets costs the backend a quarter of its time.
        encode = self._backend.encode_batch if with_offsets else self._backend.encode_batch_fast
        encodings = encode(texts, add_special_tokens=False)
        ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        spans = (
            [np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) for encoding in encodings]
            if with_offsets
            else []
        )
        return FlatTokens(
            ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
            lengths=np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)),
            offsets=None if not with_offsets else np.concatenate(spans) if spans else np.empty((0, 2), np.int32),
        )


def read_backend(path: str | os.PathLike[str] | None) -> Tokenizer:
    """Reads `tokenizer.json`.

    Raises:
        TokenizerError: there is no such file, or the library cannot read it.
    """
    if path is None:
        raise TokenizerError(
            f"expected {TOKENIZER_FILE} in the model's folder, found none; fetch the model's files again"
        )
    try:
        return Tokenizer.from_file(os.fspath(path))
    except Exception as error:  # the library raises plain Exception for whatever is wrong
        raise TokenizerError(f"{path}: not a tokenizer that `tokenizers` can read: {error}") from error


def _probe_layout(backend: Tokenizer, *, pair: bool) -> SequenceLayout:
    """Reads the layout of special tokens off the post-processor, by giving it texts of one token."""
    probe = Tokenizer(WordLevel({"x": 0}, unk_token="x"))
    if backend.post_processor is not None:
        probe.post_processor = backend.post_processor
    encoding: Encoding = probe.encode("x", "x") if pair else probe.encode("x")
    places = [place for place, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
    runs = [slice(a, b) for a, b in zip([0, *(p + 1 for p in places)], [*places, None], strict=True)]
    return SequenceLayout(
        special_ids=tuple(tuple(encoding.ids[run]) for run in runs),
        special_types=tuple(tuple(encoding.type_ids[run]) for run in runs),
        text_types=tuple(encoding.type_ids[place] for place in places),
    )
