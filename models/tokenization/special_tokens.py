"""The named special tokens of a tokenizer: `tokenizer.mask_token`, `tokenizer.pad_token_id` and their kin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def as_added_token(token: str | AddedToken | Mapping[str, Any], *, special: bool) -> AddedToken:
    """Gives the token with its flags: from its string, itself, or its form in a JSON file.

    Args:
        token: the token. A special one given as a string is searched in the text as it is, an ordinary one after the
            text's normalisation.
        special: mark it as special; False leaves the mark as it is.
    """
    if isinstance(token, str):
        return AddedToken(token, normalized=not special, special=special)
    if isinstance(token, AddedToken):
        if token.special or not special:
            return token
        token = {name: getattr(token, name) for name in ("content", *_FLAGS)}
    flags = {name: token[name] for name in _FLAGS if name in token}
    return AddedToken(token["content"], special=special or token.get("special", False), **flags)


class _Token:
    """A special token by its role; None where the tokenizer has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name

    def __get__(self, tokenizer: SpecialTokens, owner: type) -> str | None:
        token = tokenizer._special_tokens.get(self._role)
        return None if token is None else token.content

    def __set__(self, tokenizer: SpecialTokens, token: str | AddedToken | None) -> None:
        tokenizer._set_special_token(self._role, token)


class _TokenId:
    """The id of a special token; None where the tokenizer has none. Assigning an id chooses the token by it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name.removesuffix("_id")

    def __get__(self, tokenizer: SpecialTokens, owner: type) -> int | None:
        token = tokenizer._special_tokens.get(self._role)
        return None if token is None else tokenizer._id_of(token.content)

    def __set__(self, tokenizer: SpecialTokens, token_id: int | None) -> None:
        tokenizer._set_special_token(self._role, None if token_id is None else tokenizer._token_of(token_id))


class SpecialTokens(ABC):
    """The special tokens by role, for a tokenizer to inherit.

    Assigning a token only says which one plays the role; `add_special_tokens` also puts it into the vocabulary.
    """

    bos_token = _Token()
    eos_token = _Token()
    unk_token = _Token()
    sep_token = _Token()
    pad_token = _Token()
    cls_token = _Token()
    mask_token = _Token()
    bos_token_id = _TokenId()
    eos_token_id = _TokenId()
    unk_token_id = _TokenId()
    sep_token_id = _TokenId()
    pad_token_id = _TokenId()
    cls_token_id = _TokenId()
    mask_token_id = _TokenId()

    pad_token_type_id = 0

    def __init__(self) -> None:
        self._special_tokens: dict[str, AddedToken] = {}
        self._additional_special_tokens: list[AddedToken] = []

    @abstractmethod
    def _id_of(self, token: str) -> int | None:
        """The id of a token, of the unknown token if it is not in the vocabulary, None without an unknown token."""

    @abstractmethod
    def _token_of(self, token_id: int) -> str | None:
        """The token of an id."""

    def _set_special_token(self, role: str, token: str | AddedToken | Mapping[str, Any] | None) -> None:
        if token is None:
            self._special_tokens.pop(role, None)
        else:
            self._special_tokens[role] = as_added_token(token, special=True)

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens without a role."""
        return [token.content for token in self._additional_special_tokens]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[str | AddedToken | Mapping[str, Any]] | None) -> None:
        self._additional_special_tokens = [as_added_token(token, special=True) for token in tokens or ()]

    @property
    def additional_special_tokens_ids(self) -> list[int | None]:
        return [self._id_of(token) for token in self.additional_special_tokens]

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """Role -> token with its flags; the tokens without a role as a list under `additional_special_tokens`."""
        roles: dict[str, Any] = {role: self._special_tokens[role] for role in NAMES if role in self._special_tokens}
        if self._additional_special_tokens:
            roles["additional_special_tokens"] = list(self._additional_special_tokens)
        return roles

    @property
    def special_tokens_map(self) -> dict[str, str | list[str]]:
        """Role -> token; the tokens without a role as a list under `additional_special_tokens`."""
        return {
            role: [token.content for token in value] if isinstance(value, list) else value.content
            for role, value in self.special_tokens_map_extended.items()
        }

    @property
    def all_special_tokens_extended(self) -> list[AddedToken]:
        """Every special token once, with its flags, in the order of the roles."""
        tokens = [self._special_tokens[role] for role in NAMES if role in self._special_tokens]
        by_content: dict[str, AddedToken] = {}
        for token in [*tokens, *self._additional_special_tokens]:
            by_content.setdefault(token.content, token)
        return list(by_content.values())

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, in the order of the roles."""
        return [token.content for token in self.all_special_tokens_extended]

    @property
    def all_special_ids(self) -> list[int | None]:
        return [self._id_of(token) for token in self.all_special_tokens]
