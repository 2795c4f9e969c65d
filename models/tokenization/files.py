"""Reads and writes the files of a tokenizer folder.

`tokenizer.json` holds the whole tokenizer of the `tokenizers` library, `tokenizer_config.json` the constructor's
arguments and `added_tokens_decoder` (id -> added token with its flags). Older folders have `special_tokens_map.json`
and `added_tokens.json` in its place; we write all of them, so that any version of `transformers` reads what it expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from models.errors import TokenizerError
from models.hub import Source
from models.tokenization.special_tokens import NAMES, as_added_token

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
TOKENIZER_FILE = "tokenizer.json"

# Written by transformers for its own use: which class, where from, and what chat templates need.
_FOREIGN_ARGUMENTS = (
    "added_tokens_decoder", "auto_map", "backend", "extra_special_tokens", "is_local", "local_files_only",
    "name_or_path", "processor_class", "special_tokens_map_file", "tokenizer_class", "tokenizer_file",
)  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        TokenizerError: the file is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"{path}: expected a JSON object, found: {error}; fetch the model's files again"
        ) from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def read_arguments(source: Source) -> dict[str, Any]:
    """Gives the constructor's arguments that the source's files state, `added_tokens_decoder` as id -> AddedToken."""
    config = _read_from(source, CONFIG_FILE)
    arguments = {name: value for name, value in config.items() if name not in _FOREIGN_ARGUMENTS}
    added = {
        int(i): as_added_token(token, special=False) for i, token in config.get("added_tokens_decoder", {}).items()
    }
    if not added:
        arguments |= {k: v for k, v in _read_from(source, SPECIAL_TOKENS_FILE).items() if v is not None}
        added = {i: AddedToken(token) for token, i in _read_from(source, ADDED_TOKENS_FILE).items()}
    arguments["added_tokens_decoder"] = added
    extra = config.get("extra_special_tokens")  # the newer name; a list, or tokens by roles of their own
    if extra:
        arguments.setdefault("additional_special_tokens", list(extra.values() if isinstance(extra, Mapping) else extra))

    # A role names only the token's string; its flags (that <mask> eats the blank before it) stand in the decoder.
    flags = {token.content: token for token in added.values()}
    for role in NAMES:
        token = arguments.get(role)
        if isinstance(token, Mapping):
            arguments[role] = as_added_token(token, special=True)
        elif isinstance(token, str) and token in flags:
            arguments[role] = flags[token]
    return arguments


def _read_from(source: Source, filename: str) -> dict[str, Any]:
    path = source.find(filename)
    return {} if path is None else read_json(path)


def write_json(path: Path, content: Any, *, indent: int = 2, sort_keys: bool = True) -> None:
    """Writes JSON as the tokenizers of Hugging Face do: UTF-8 as it is, a newline at the end."""
    path.write_text(
        json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def token_as_json(token: AddedToken, *, with_special: bool = True) -> dict[str, Any]:
    """The token with its flags, as in `added_tokens_decoder` or, without `special`, in `special_tokens_map.json`."""
    flags = {
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
    }
    return flags | {"special": token.special} if with_special else flags


def special_tokens_as_json(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Role -> token with its flags, as in `special_tokens_map.json`."""
    return {
        role: [token_as_json(token, with_special=False) for token in value]
        if isinstance(value, list)
        else token_as_json(value, with_special=False)
        for role, value in tokens.items()
    }
