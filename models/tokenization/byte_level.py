"""Byte-level BPE: the alphabet that stands for bytes, and the files `vocab.json` and `merges.txt`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers.models import BPE

from models.errors import TokenizerError
from models.tokenization.files import read_json, write_json

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"

Vocabulary = dict[str, int]
Merges = list[tuple[str, str]]

# Bytes that print stand for themselves, in Latin-1; the others, in order, are the characters from 256 on.
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
ALPHABET: dict[str, int] = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): b for i, b in enumerate(_OTHERS)}


def to_bytes(text: str) -> bytes:
    """The bytes that a string over the alphabet stands for; a character outside of it stands for itself, in UTF-8."""
    return b"".join(bytes((ALPHABET[char],)) if char in ALPHABET else char.encode("utf-8") for char in text)


def read_bpe(
    vocab_file: str | os.PathLike[str] | None,
    merges_file: str | os.PathLike[str] | None,
    tokenizer_file: str | os.PathLike[str] | None = None,
) -> tuple[Vocabulary, Merges]:
    """Reads vocabulary and merges from their two files, or from `tokenizer.json`.

    Raises:
        TokenizerError: neither is there, or they cannot be read.
    """
    if vocab_file is not None and merges_file is not None:
        try:
            vocabulary, merges = BPE.read_file(os.fspath(vocab_file), os.fspath(merges_file))
        except Exception as error:  # the library raises plain Exception for whatever is wrong
            raise TokenizerError(f"{vocab_file}, {merges_file}: expected a BPE vocabulary, found: {error}") from error
        return vocabulary, merges
    if tokenizer_file is None:
        raise TokenizerError(
            f"expected {VOCAB_FILE} and {MERGES_FILE}, or tokenizer.json, in the model's folder, found neither; "
            "fetch the model's files again"
        )
    model = read_json(Path(tokenizer_file)).get("model", {})
    if model.get("type") != "BPE":
        raise TokenizerError(f"{tokenizer_file}: expected a BPE model, found {model.get('type')!r}")
    return model["vocab"], merges_of(model)


def merges_of(model: Mapping[str, Any]) -> Merges:
    """The merges of the model in a `tokenizer.json`, of newer ones (pairs) and older ones (strings with a blank)."""
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(first, second) for first, second in pairs]


def write_bpe(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], directory: str, prefix: str | None
) -> tuple[str, str]:
    """Writes `vocab.json` and `merges.txt`; returns their paths."""
    start = f"{prefix}-" if prefix else ""
    vocab_path, merges_path = Path(directory) / f"{start}{VOCAB_FILE}", Path(directory) / f"{start}{MERGES_FILE}"
    write_json(vocab_path, vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    merges_path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(vocab_path), str(merges_path)


def model_of(backend_json: str) -> Mapping[str, Any]:
    """The model's part of a serialised tokenizer."""
    model: Mapping[str, Any] = json.loads(backend_json)["model"]
    return model


def build_bpe(vocabulary: Mapping[str, int], merges: Merges) -> BPE:
    """The BPE over this vocabulary; bytes outside of it are dropped.

    Raises:
        TokenizerError: a merge makes or takes a piece that the vocabulary lacks.
    """
    try:
        return BPE(vocab=dict(vocabulary), merges=merges, fuse_unk=False)
    except Exception as error:
        raise TokenizerError(f"vocabulary and merges do not fit together: {error}") from error


def build_complete_bpe(vocabulary: Mapping[str, int], merges: Merges) -> BPE:
    """The same, over a vocabulary that has every byte and every piece of a merge, so that nothing is dropped.

    The pieces outside the true vocabulary get ids after it; whoever uses this goes by the strings.
    """
    pieces = [*ALPHABET, *(piece for first, second in merges for piece in (first, second, first + second))]
    missing = [piece for piece in dict.fromkeys(pieces) if piece not in vocabulary]
    first_id = max(vocabulary.values(), default=-1) + 1
    return build_bpe({**vocabulary, **{piece: first_id + i for i, piece in enumerate(missing)}}, merges)
