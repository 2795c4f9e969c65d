"""RoBERTa's tokenizers: byte-level BPE, `<s> A </s>` and `<s> A </s></s> B </s>`."""

from __future__ import annotations

import os
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from models.errors import TokenizerError
from models.tokenization.fast import PreTrainedTokenizerFast, read_backend

_FILES = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}


class RobertaTokenizerFast(PreTrainedTokenizerFast):
    """RoBERTa's tokenizer with offsets, windows and words, from `tokenizer.json` or `vocab.json` and `merges.txt`."""

    vocab_files_names = {**_FILES, **PreTrainedTokenizerFast.vocab_files_names}

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        merges_file: str | os.PathLike[str] | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        errors: str = "replace",
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        cls_token: str | AddedToken = "<s>",
        unk_token: str | AddedToken = "<unk>",
        pad_token: str | AddedToken = "<pad>",
        mask_token: str | AddedToken = "<mask>",
        add_prefix_space: bool = False,
        trim_offsets: bool = True,
        **options: Any,
    ) -> None:
        if isinstance(mask_token, str):  # it takes the blank before it, so that it stands for a whole word
            mask_token = AddedToken(mask_token, lstrip=True, normalized=False, special=True)
        backend = read_backend(tokenizer_file) if tokenizer_file else _build_backend(vocab_file, merges_file)
        super().__init__(
            tokenizer_object=backend,
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=mask_token,
            **options,
        )
        self.add_prefix_space = add_prefix_space
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.RobertaProcessing(
            (self.sep_token, self.sep_token_id),
            (self.cls_token, self.cls_token_id),
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
        )


def _build_backend(vocab_file: str | os.PathLike[str] | None, merges_file: str | os.PathLike[str] | None) -> Tokenizer:
    if vocab_file is None or merges_file is None:
        raise TokenizerError(
            "expected tokenizer.json, or vocab.json and merges.txt, in the model's folder, found neither; "
            "fetch the model's files again"
        )
    return Tokenizer(BPE.from_file(os.fspath(vocab_file), os.fspath(merges_file)))
