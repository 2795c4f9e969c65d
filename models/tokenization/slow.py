"""Tokenizers in Python, with the behaviour of Hugging Face's slow classes."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from tokenizers import AddedToken

from models.tokenization.arguments import CallOptions, Text, TextOrPair
from models.tokenization.base import PreTrainedTokenizerBase
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.sequences import Ids
from models.tokenization.special_tokens import as_added_token


class PreTrainedTokenizer(PreTrainedTokenizerBase):
    """A tokenizer whose family cuts text into tokens by `_tokenize`; no offsets, no windows.

    A family sets `_vocabulary` (token -> id) before it calls this constructor.
    """

    is_fast = False
    _vocabulary: Mapping[str, int]

    def __init__(self, *, added_tokens_decoder: Mapping[int, AddedToken] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._added = dict(added_tokens_decoder or {})
        self._add_tokens(self.all_special_tokens_extended, special=True)

    @abstractmethod
    def _tokenize(self, text: str) -> list[str]:
        """Cuts text without added tokens into tokens."""

    def _prepare_text(self, text: str, *, is_split_into_words: bool) -> str:
        """Changes a text, or a word, before anything else; a family may take options of its own."""
        return text

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _encode(self, rows: Sequence[TextOrPair], call: CallOptions, *, is_batch: bool) -> BatchEncoding:
        self._refuse_offsets(call)
        built = [
            self._build_row(self._ids(first, call), None if second is None else self._ids(second, call), call)
            for first, second in rows
        ]
        return self._finish_rows(built, call) if is_batch else self._finish_row(built[0], call, prepend_batch_axis=True)

    def _refuse_offsets(self, call: CallOptions) -> None:
        if call.return_offsets_mapping:
            raise NotImplementedError("offsets are known to the fast tokenizers only; use a *TokenizerFast")

    def _ids(self, text: Text, call: CallOptions) -> Ids:
        return [self._known_id(token) for token in self._tokens(text, call)]

    def _tokens(self, text: Text, call: CallOptions) -> list[str]:
        options = {"split_special_tokens": call.split_special_tokens, **call.tokenize_options}
        if isinstance(text, str):
            return self.tokenize(text, **options)
        return [token for word in text for token in self.tokenize(word, is_split_into_words=True, **options)]

    def tokenize(
        self,
        text: str,
        *,
        is_split_into_words: bool = False,
        split_special_tokens: bool | None = None,
        **options: Any,
    ) -> list[str]:
        """The tokens of a text, or of a word, as strings; pieces outside the vocabulary as they are."""
        text = self._prepare_text(text, is_split_into_words=is_split_into_words, **options)
        if self.split_special_tokens if split_special_tokens is None else split_special_tokens:
            return self._tokenize(text)
        added = self.added_tokens_encoder
        pieces = [[piece] if piece in added else self._tokenize(piece) for piece in self._split_added_tokens(text)]
        return [token for piece in pieces for token in piece]

    @cached_property
    def _added_pattern(self) -> re.Pattern[str]:
        """Finds added tokens, at each place the longest."""
        longest_first = sorted(self.added_tokens_encoder, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if longest_first else "(?!)()")

    def _split_added_tokens(self, text: str) -> list[str]:
        """Cuts added tokens out of the text, and the white space that they take with them; no empty pieces."""
        pieces = self._added_pattern.split(text)  # text, token, text, token, ..., text
        flags = {token.content: token for token in self._added.values()}
        for place in range(1, len(pieces), 2):
            token = flags[pieces[place]]
            before, after = pieces[place - 1], pieces[place + 1]
            if token.rstrip:
                after = after.lstrip()
            if token.lstrip:
                before = before.rstrip()
            if token.single_word and before and before[-1] != " ":  # part of a longer word: ordinary text
                before, pieces[place] = before + token.content, ""
            elif token.single_word and after and after[0] != " ":
                after, pieces[place] = token.content + after, ""
            pieces[place - 1], pieces[place + 1] = before, after
        return [piece for piece in pieces if piece]

    # -- back to text --------------------------------------------------------------------------------------------------

    def _decode(
        self, ids: Ids, skip_special_tokens: bool, *, spaces_between_special_tokens: bool = True, **options: Any
    ) -> str:
        special, added = set(self.all_special_tokens), self.added_tokens_encoder
        apart = {token for token in added if token not in special}
        apart |= {token for token in self.additional_special_tokens if added.get(token, -1) >= self.vocab_size}
        tokens = [token for token in self.convert_ids_to_tokens(ids) if token is not None]
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in special]
        texts: list[str] = []
        for stands_apart, group in groupby(tokens, key=apart.__contains__):
            run = list(group)
            texts += run if stands_apart else [self.convert_tokens_to_string(run)]
        return (" " if spaces_between_special_tokens else "").join(text for text in texts if text)

    # -- vocabulary ----------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of tokens, without those that were added."""
        return len(self._vocabulary)

    def __len__(self) -> int:
        return len(self.get_vocab())

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return {**self._vocabulary, **self.added_tokens_encoder}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> token with its flags, of the tokens that are cut out of the text first; in the order of ids."""
        return dict(sorted(self._added.items()))

    @cached_property
    def _tokens_by_id(self) -> dict[int, str]:
        return {i: token for token, i in self.get_vocab().items()}

    @cached_property
    def _ids_by_token(self) -> dict[str, int]:
        return self.get_vocab()

    def _id_of(self, token: str) -> int | None:
        unknown = None if self.unk_token is None else self._ids_by_token.get(self.unk_token)
        return self._ids_by_token.get(token, unknown)

    def _known_id(self, token: str) -> int:
        token_id = self._id_of(token)
        if token_id is None:
            raise ValueError("the text has a piece outside the vocabulary and the tokenizer has no unk_token; set one")
        return token_id

    def _token_of(self, token_id: int) -> str | None:
        return self._tokens_by_id.get(token_id)

    def _as_stored(self, token: AddedToken) -> AddedToken:
        """How an added token is kept; a family that changes text before it looks for tokens changes them too."""
        return token

    def _add_tokens(self, tokens: Sequence[str | AddedToken], *, special: bool) -> int:
        vocabulary = self.get_vocab()
        known, roles = self.added_tokens_encoder, set(self.all_special_tokens)
        num_new = 0
        for given in tokens:
            token = self._as_stored(as_added_token(given, special=special or given in roles))
            if not token.content or token.content in known:
                continue
            if token.content not in vocabulary:
                vocabulary[token.content] = len(vocabulary)
                num_new += 1
            if token.special and token.content not in roles:
                self._additional_special_tokens.append(token)
            self._added[vocabulary[token.content]] = token
            known[token.content] = vocabulary[token.content]
        self._forget_derived()
        return num_new
