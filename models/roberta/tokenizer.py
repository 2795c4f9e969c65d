"""RoBERTa's tokenizers: byte-level BPE, `<s> A </s>` and `<s> A </s></s> B </s>`.

`RobertaTokenizer` and `RobertaTokenizerFast` behave as the slow and the fast class of the same name in transformers v4.
XLM-RoBERTa and CamemBERT, whose encoder is RoBERTa's, have SentencePiece vocabularies, read from `tokenizer.json`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors

from models.tokenization.arguments import CallOptions, TextOrPair
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.byte_level import (
    MERGES_FILE,
    VOCAB_FILE,
    Merges,
    Vocabulary,
    build_bpe,
    build_complete_bpe,
    merges_of,
    model_of,
    read_bpe,
    to_bytes,
    write_bpe,
)
from models.tokenization.byte_spans import ByteSpans
from models.tokenization.fast import PreTrainedTokenizerFast, read_backend
from models.tokenization.files import TOKENIZER_FILE
from models.tokenization.slow import PreTrainedTokenizer
from models.tokenization.special_tokens import NAMES
from models.tokenization.windows import FlatTokens, SequenceLayout

_Path = str | os.PathLike[str]
_Token = str | AddedToken
_FILES = {"vocab_file": VOCAB_FILE, "merges_file": MERGES_FILE, "tokenizer_file": TOKENIZER_FILE}
_INPUT_NAMES = ("input_ids", "attention_mask")  # RoBERTa has one token type only


class RobertaTokenizer(PreTrainedTokenizer):
    """RoBERTa's tokenizer without offsets; pieces outside the vocabulary become `unk_token`."""

    vocab_files_names = _FILES
    model_input_names = _INPUT_NAMES

    def __init__(
        self,
        vocab_file: _Path | None = None,
        merges_file: _Path | None = None,
        errors: str = "replace",
        bos_token: _Token = "<s>",
        eos_token: _Token = "</s>",
        sep_token: _Token = "</s>",
        cls_token: _Token = "<s>",
        unk_token: _Token = "<unk>",
        pad_token: _Token = "<pad>",
        mask_token: _Token = "<mask>",
        add_prefix_space: bool = False,
        *,
        tokenizer_file: _Path | None = None,
        **options: Any,
    ) -> None:
        """Reads `vocab.json` and `merges.txt`, or where those are missing `tokenizer.json`.

        Args:
            vocab_file: path of `vocab.json`.
            merges_file: path of `merges.txt`.
            errors: what decoding does with bytes that are not UTF-8, as in `bytes.decode`.
            bos_token: begins a sequence in training; `cls_token` is what is put there.
            eos_token: ends a sequence in training; `sep_token` is what is put there.
            sep_token: stands after each text, and twice between the texts of a pair.
            cls_token: stands first.
            unk_token: stands for what the vocabulary lacks.
            pad_token: fills short rows of a batch.
            mask_token: stands for a word to be predicted; takes the blanks before it, unless given as an AddedToken.
            add_prefix_space: put a blank before a text that has none, so that its first word is like others.
            tokenizer_file: path of `tokenizer.json`.
            **options: those of the base class.
        """
        self._vocabulary, self._merges = read_bpe(vocab_file, merges_file, tokenizer_file)
        self._bpe = Tokenizer(build_complete_bpe(self._vocabulary, self._merges))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.errors = errors
        self.add_prefix_space = add_prefix_space
        roles = (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token)
        super().__init__(**_with_flags(roles), errors=errors, add_prefix_space=add_prefix_space, **options)

    def _layout(self, *, pair: bool) -> SequenceLayout:
        cls, sep = self._known_id(self.cls_token or ""), self._known_id(self.sep_token or "")
        runs = ((cls,), (sep, sep), (sep,)) if pair else ((cls,), (sep,))
        return SequenceLayout(
            special_ids=runs,
            special_types=tuple((0,) * len(run) for run in runs),
            text_types=(0,) * (len(runs) - 1),
        )

    def _prepare_text(self, text: str, *, is_split_into_words: bool, add_prefix_space: bool | None = None) -> str:
        wants_space = is_split_into_words or (self.add_prefix_space if add_prefix_space is None else add_prefix_space)
        return f" {text}" if wants_space and text and not text[0].isspace() else text

    def _tokenize(self, text: str) -> list[str]:
        return self._bpe.encode(text).tokens

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens."""
        return to_bytes("".join(tokens)).decode("utf-8", errors=self.errors)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes `vocab.json` and `merges.txt`, without added tokens; returns their paths."""
        return write_bpe(self._vocabulary, self._merges, save_directory, filename_prefix)


class RobertaTokenizerFast(PreTrainedTokenizerFast):
    """RoBERTa's tokenizer with offsets, windows and words; bytes outside the vocabulary are dropped."""

    vocab_files_names = _FILES
    model_input_names = _INPUT_NAMES

    def __init__(
        self,
        vocab_file: _Path | None = None,
        merges_file: _Path | None = None,
        tokenizer_file: _Path | None = None,
        errors: str = "replace",
        bos_token: _Token = "<s>",
        eos_token: _Token = "</s>",
        sep_token: _Token = "</s>",
        cls_token: _Token = "<s>",
        unk_token: _Token = "<unk>",
        pad_token: _Token = "<pad>",
        mask_token: _Token = "<mask>",
        add_prefix_space: bool = False,
        trim_offsets: bool = True,
        **options: Any,
    ) -> None:
        """Reads `tokenizer.json`, or where that is missing `vocab.json` and `merges.txt`.

        Args:
            vocab_file: path of `vocab.json`.
            merges_file: path of `merges.txt`.
            tokenizer_file: path of `tokenizer.json`.
            errors: kept to be saved; bytes that are not UTF-8 decode to U+FFFD.
            bos_token: see `RobertaTokenizer`, as for the other tokens.
            eos_token: ends a sequence in training.
            sep_token: stands after each text.
            cls_token: stands first.
            unk_token: given as the id of tokens that the vocabulary lacks.
            pad_token: fills short rows of a batch.
            mask_token: stands for a word to be predicted.
            add_prefix_space: put a blank before each piece of text between special tokens that does not begin with one.
            trim_offsets: leave the blank before a word out of its token's offsets.
            **options: those of the base class.
        """
        roles = _with_flags((bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token))
        if tokenizer_file is not None:
            backend = read_backend(tokenizer_file)
        else:
            backend = _build_backend(*read_bpe(vocab_file, merges_file), roles)
        # A tokenizer.json may split or assemble in its own way; only what has these settings takes them.
        splitter, assembler = backend.pre_tokenizer, backend.post_processor
        if isinstance(splitter, pre_tokenizers.ByteLevel):
            splitter.add_prefix_space = add_prefix_space
        if isinstance(assembler, processors.RobertaProcessing):
            assembler.add_prefix_space = add_prefix_space
            assembler.trim_offsets = trim_offsets
        self.add_prefix_space = add_prefix_space
        self.trim_offsets = trim_offsets
        saved: dict[str, Any] = {"errors": errors, "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets}
        super().__init__(tokenizer_object=backend, **roles, **saved, **options)

    def _encode(self, rows: Sequence[TextOrPair], call: CallOptions, *, is_batch: bool) -> BatchEncoding:
        if call.is_split_into_words and not self.add_prefix_space:
            raise ValueError(
                "words need a blank before each: load the tokenizer with add_prefix_space=True "
                "to use it with is_split_into_words=True"
            )
        return super()._encode(rows, call, is_batch=is_batch)

    @cached_property
    def _byte_spans(self) -> ByteSpans | None:
        """None where the offsets of tokens do not follow from their ids."""
        backend: Any = self._backend
        if (
            self.add_prefix_space
            or backend.normalizer is not None
            or backend.model.unk_token is not None
            or not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel)
            or not isinstance(backend.post_processor, processors.RobertaProcessing)
        ):
            return None
        return ByteSpans.of(self.get_vocab(), self.added_tokens_encoder, trim=self.trim_offsets)

    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        if not with_offsets or self._byte_spans is None:
            return super()._flat_tokens(texts, with_offsets=with_offsets)
        tokens = super()._flat_tokens(texts, with_offsets=False)
        offsets, is_right = self._byte_spans.locate(texts, tokens)
        if not is_right.all():
            others = [text for text, right in zip(texts, is_right, strict=True) if not right]
            asked = super()._flat_tokens(others, with_offsets=True)
            assert asked.offsets is not None
            offsets[np.repeat(~is_right, tokens.lengths)] = asked.offsets
        return replace(tokens, offsets=offsets)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes `vocab.json` and `merges.txt`, without added tokens; returns their paths."""
        model = model_of(self._backend.to_str())
        return write_bpe(model["vocab"], merges_of(model), save_directory, filename_prefix)


class XLMRobertaTokenizerFast(PreTrainedTokenizerFast):
    """XLM-RoBERTa's tokenizer, from `tokenizer.json`."""

    model_input_names = _INPUT_NAMES
    default_special_tokens: ClassVar[Mapping[str, Any]] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": AddedToken("<mask>", lstrip=True, normalized=False, special=True),
    }


class CamembertTokenizerFast(XLMRobertaTokenizerFast):
    """CamemBERT's tokenizer, from `tokenizer.json`."""

    default_special_tokens: ClassVar[Mapping[str, Any]] = {
        **XLMRobertaTokenizerFast.default_special_tokens,
        "additional_special_tokens": ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    }


def _with_flags(tokens: tuple[_Token | None, ...]) -> dict[str, Any]:
    """Role -> token, in the order of `NAMES`. The mask takes the blanks before it, as it stands for a whole word."""
    return {
        role: token
        if isinstance(token, AddedToken)
        else AddedToken(token, lstrip=role == "mask_token", normalized=role != "mask_token", special=True)
        for role, token in zip(NAMES, tokens, strict=True)
        if token is not None  # a config may switch a role off
    }


def _build_backend(vocabulary: Vocabulary, merges: Merges, roles: Mapping[str, AddedToken]) -> Tokenizer:
    backend = Tokenizer(build_bpe(vocabulary, merges))
    backend.add_special_tokens(list(roles.values()))
    ids = backend.get_vocab()
    sep, cls = roles["sep_token"].content, roles["cls_token"].content
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing((sep, ids[sep]), (cls, ids[cls]))
    return backend
