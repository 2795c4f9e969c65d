"""Tokenizers on the Rust library, with the behaviour of Hugging Face's fast classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from models.errors import TokenizerError
from models.tokenization.arguments import CallOptions, Limits, TextOrPair, TruncationStrategy
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.files import TOKENIZER_FILE
from models.tokenization.flat_tokenizer import FlatTokenizer
from models.tokenization.sequences import Ids
from models.tokenization.special_tokens import as_added_token
from models.tokenization.windows import FlatTokens, SequenceLayout, share_room

_PARALLELISM = "TOKENIZERS_PARALLELISM"


class PreTrainedTokenizerFast(FlatTokenizer):
    """A tokenizer from any `tokenizer.json`; families whose files need more have a class of their own.

    Calls never change the Rust tokenizer, so one object serves several threads. It pickles, and forked processes can
    use it.
    """

    vocab_files_names: ClassVar[Mapping[str, str]] = {"tokenizer_file": TOKENIZER_FILE}
    is_fast = True

    def __init__(
        self,
        *,
        tokenizer_file: str | os.PathLike[str] | None = None,
        tokenizer_object: Tokenizer | None = None,
        added_tokens_decoder: Mapping[int, AddedToken] | None = None,
        **options: Any,
    ) -> None:
        """Takes the Rust tokenizer or its file; `options` are those of the base class."""
        super().__init__(**options)
        self._backend = read_backend(tokenizer_file) if tokenizer_object is None else tokenizer_object
        self._backend.no_truncation()
        self._backend.no_padding()
        self._declare_tokens((added_tokens_decoder or {}).items())

    def _declare_tokens(self, declared: Iterable[tuple[int, AddedToken]]) -> None:
        """Adds the tokens of the config, and those with a role, that the backend lacks or has with other flags."""
        tokens = {token.content: token for _, token in sorted(declared)}
        tokens |= {token.content: token for token in self.all_special_tokens_extended}
        present = {repr(token) for token in self._backend.get_added_tokens_decoder().values()}  # == leaves flags out
        self._add_tokens([token for token in tokens.values() if repr(token) not in present], special=False)

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer of the `tokenizers` library. Do not switch on its truncation or padding."""
        return self._backend

    # -- the pipeline's path -------------------------------------------------------------------------------------------

    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        backend = self._encoder(split_special_tokens=self.split_special_tokens)
        encodings = self._encode_each(backend, texts, add_special_tokens=False, with_offsets=with_offsets)
        ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        spans = [np.array(e.offsets, dtype=np.int32).reshape(-1, 2) for e in encodings] if with_offsets else []
        return FlatTokens(
            ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
            lengths=np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)),
            offsets=None if not with_offsets else np.concatenate(spans) if spans else np.empty((0, 2), np.int32),
        )

    @property
    def continuing_subword_prefix(self) -> str:
        """What marks a piece that continues a word ("##" for WordPiece); empty where the start of a word is marked."""
        return getattr(self._backend.model, "continuing_subword_prefix", None) or ""

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _encode(self, rows: Sequence[TextOrPair], call: CallOptions, *, is_batch: bool) -> BatchEncoding:
        if call.tokenize_options:
            raise TypeError(f"unexpected arguments of a fast tokenizer: {', '.join(sorted(call.tokenize_options))}")
        if not is_batch and not rows[0][1]:  # for one text, an empty pair is none
            rows = [(rows[0][0], None)]
        windows = self._encode_windows(rows, call)
        encodings = [encoding for row in windows for encoding in row]
        if call.limits.max_length is None:
            self._warn_if_too_long(max(map(len, encodings)))
        self._pad_encodings(encodings, call.limits)
        columns = _columns(encodings, call)
        if call.return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = [i for i, row in enumerate(windows) for _ in row]
        if not is_batch and not call.return_overflowing_tokens and call.return_tensors is None:
            columns = {name: column[0] if isinstance(column[0], list) else column for name, column in columns.items()}
        return BatchEncoding(columns, encodings, tensor_type=call.return_tensors)

    def _encode_windows(self, rows: Sequence[TextOrPair], call: CallOptions) -> list[list[Encoding]]:
        """The encodings of each row: one, or with overflow asked for, one for each window."""
        backend = self._encoder(split_special_tokens=call.split_special_tokens)
        limits = call.limits
        if limits.truncation is TruncationStrategy.DO_NOT_TRUNCATE or limits.max_length is None:
            inputs = [first if second is None else (first, second) for first, second in rows]
            whole = self._encode_each(
                backend, inputs, is_pretokenized=call.is_split_into_words, add_special_tokens=call.add_special_tokens
            )
            return [[encoding] for encoding in whole]

        def encode(texts: Iterable[Any]) -> list[Encoding]:
            return self._encode_each(
                parts, list(texts), is_pretokenized=call.is_split_into_words, add_special_tokens=False
            )

        parts = self._encoder(split_special_tokens=call.split_special_tokens, assembles=False)
        firsts = encode(first for first, _ in rows)
        seconds = iter(encode(second for _, second in rows if second is not None))
        assembler = self._assembler()
        # The assembler sets the token types of the first window only; after another text they are right from the start.
        marks_second = any(self._layout(pair=True).text_types)
        num_special = [self.num_special_tokens_to_add(pair) * call.add_special_tokens for pair in (False, True)]
        windows = []
        for first, (_, text_pair) in zip(firsts, rows, strict=True):
            second = None if text_pair is None else next(seconds)
            _truncate(first, second, limits, num_special[second is not None])
            if second is not None and second.overflowing and call.return_overflowing_tokens and marks_second:
                (marked,) = encode([([] if call.is_split_into_words else "", text_pair)])
                _cut(marked, len(second), limits)
                second = marked
            encoding = assembler.post_process(first, second, call.add_special_tokens)
            windows.append([encoding, *(encoding.overflowing if call.return_overflowing_tokens else ())])
        return windows

    def _pad_encodings(self, encodings: Sequence[Encoding], limits: Limits) -> None:
        length = limits.padded_length([len(encoding) for encoding in encodings])
        if length is None:
            return
        for encoding in encodings:
            encoding.pad(
                length,
                direction=limits.padding_side,
                pad_id=self.pad_token_id,
                pad_type_id=self.pad_token_type_id,
                pad_token=self.pad_token,
            )

    def _encoder(self, *, split_special_tokens: bool, assembles: bool = True) -> Tokenizer:
        """What turns text into tokens.

        Args:
            split_special_tokens: read special tokens in the text as ordinary text.
            assembles: give whole sequences; False gives the parts of one that is put together later.
        """
        # A template notes that each part is a first text, which would then hold in the sequence too.
        assembles = assembles or not isinstance(self._backend.post_processor, TemplateProcessing)
        variant = (split_special_tokens, assembles)
        if variant not in self._encoders:
            self._encoders[variant] = self._make_encoder(split_special_tokens, assembles)
        return self._encoders[variant]

    @cached_property
    def _encoders(self) -> dict[tuple[bool, bool], Tokenizer]:
        return {}

    def _encode_each(
        self,
        encoder: Tokenizer,
        inputs: Sequence[Any],
        *,
        is_pretokenized: bool = False,
        add_special_tokens: bool,
        with_offsets: bool = True,
    ) -> list[Encoding]:
        """Encodes texts or pairs, or words of theirs."""
        # Tracking offsets costs the backend a quarter of its time.
        encode = encoder.encode_batch if with_offsets else encoder.encode_batch_fast
        return encode(inputs, is_pretokenized=is_pretokenized, add_special_tokens=add_special_tokens)

    def _make_encoder(self, split_special_tokens: bool, assembles: bool) -> Tokenizer:
        """The backend, or a copy of it with other settings."""
        if assembles and not split_special_tokens:
            return self._backend
        backend = Tokenizer.from_str(self._backend.to_str())
        backend.encode_special_tokens = split_special_tokens
        if not assembles:
            backend.post_processor = None
        return backend

    def _assembler(self) -> Tokenizer:
        """Puts special tokens around encodings that are made already.

        The backend's own post-processor would trim their offsets a second time.
        """
        assembler = Tokenizer(WordLevel({}, unk_token=""))
        single, pair = self._layout(pair=False), self._layout(pair=True)
        ids = sorted({token for layout in (single, pair) for run in layout.special_ids for token in run})
        assembler.post_processor = TemplateProcessing(
            single=_template(single),
            pair=_template(pair),
            special_tokens=[{"id": f"S{i}", "ids": [i], "tokens": [self._backend.id_to_token(i)]} for i in ids],
        )
        return assembler

    def _layout(self, *, pair: bool) -> SequenceLayout:
        """Reads the layout off the backend's post-processor, by giving it texts of one token."""
        probe = Tokenizer(WordLevel({"x": 0}, unk_token="x"))
        if self._backend.post_processor is not None:
            probe.post_processor = self._backend.post_processor
        encoding = probe.encode("x", "x") if pair else probe.encode("x")
        places = [place for place, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
        runs = [slice(start, end) for start, end in zip([0, *(p + 1 for p in places)], [*places, None], strict=True)]
        return SequenceLayout(
            special_ids=tuple(tuple(encoding.ids[run]) for run in runs),
            special_types=tuple(tuple(encoding.type_ids[run]) for run in runs),
            text_types=tuple(encoding.type_ids[place] for place in places),
        )

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **options: Any
    ) -> list[str]:
        """The tokens of a text (and its pair), as strings."""
        return self(text, pair, add_special_tokens=add_special_tokens, **options).tokens()

    # -- back to text --------------------------------------------------------------------------------------------------

    def _decode(self, ids: Ids, skip_special_tokens: bool, **options: Any) -> str:
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens."""
        decoder = self._backend.decoder
        return decoder.decode(tokens) if decoder is not None else " ".join(tokens)

    # -- vocabulary ----------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of tokens, without those that were added."""
        return self._backend.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> token with its flags, of the tokens that are cut out of the text first; in the order of ids."""
        return dict(sorted(self._backend.get_added_tokens_decoder().items()))

    def _id_of(self, token: str) -> int | None:
        token_id = self._backend.token_to_id(token)
        if token_id is None and self.unk_token is not None:
            return self._backend.token_to_id(self.unk_token)
        return token_id

    def _token_of(self, token_id: int) -> str | None:
        return self._backend.id_to_token(token_id)

    def _add_tokens(self, tokens: Sequence[str | AddedToken], *, special: bool) -> int:
        self._forget_derived()
        added = 0
        for is_special, group in groupby(
            (as_added_token(token, special=special) for token in tokens), key=lambda token: special or token.special
        ):
            add = self._backend.add_special_tokens if is_special else self._backend.add_tokens
            added += add(list(group))
        return added

    # -- files ---------------------------------------------------------------------------------------------------------

    @property
    def _saved_class_name(self) -> str:
        own = type(self).__name__
        return own if own == "PreTrainedTokenizerFast" else own.removesuffix("Fast")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes the vocabulary files of the backend's model; returns the paths."""
        paths: list[str] = self._backend.model.save(save_directory, filename_prefix)
        return tuple(paths)

    def _save_backend(self, folder: Path, prefix: str) -> tuple[str, ...]:
        path = folder / f"{prefix}{TOKENIZER_FILE}"
        self._backend.save(str(path))
        return (str(path),)


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


def _template(layout: SequenceLayout) -> list[str]:
    """The layout in the words of `TemplateProcessing`."""
    texts = [f"${name}:{kind}" for name, kind in zip("AB", layout.text_types, strict=False)]
    runs = [
        [f"S{token}:{kind}" for token, kind in zip(ids, kinds, strict=True)]
        for ids, kinds in zip(layout.special_ids, layout.special_types, strict=True)
    ]
    return [
        piece for run, text in zip(runs, [*texts, None], strict=True) for piece in [*run, text] if piece is not None
    ]


def _truncate(first: Encoding, second: Encoding | None, limits: Limits, num_special: int) -> None:
    """Truncates in place; what is cut off stays with the encoding as its overflow."""
    room = (limits.max_length or 0) - num_special
    if room < 0:
        raise ValueError(f"max_length {limits.max_length} is less than the {num_special} special tokens of a sequence")
    if limits.stride and limits.stride >= room:
        raise ValueError(f"stride {limits.stride} must be less than {room}, the tokens left for text by max_length")
    to_remove = len(first) + len(second or ()) - room
    if to_remove <= 0:
        return
    if limits.truncation is TruncationStrategy.LONGEST_FIRST or room == 0:
        texts = [first] if second is None else [first, second]
        for text, width in zip(texts, share_room([np.array(len(text)) for text in texts], room), strict=True):
            _cut(text, int(width), limits)
        return
    only_second = limits.truncation is TruncationStrategy.ONLY_SECOND
    target = second if only_second else first
    if target is None:
        raise ValueError("truncation='only_second' needs a text_pair")
    if len(target) <= to_remove:
        raise ValueError(
            f"the {'second' if only_second else 'first'} text has {len(target)} tokens, but {to_remove} must go to "
            f"respect max_length {limits.max_length}; use truncation='longest_first' or a larger max_length"
        )
    _cut(target, len(target) - to_remove, limits)


def _cut(encoding: Encoding, length: int, limits: Limits) -> None:
    if length < len(encoding):
        encoding.truncate(length, stride=limits.stride, direction=limits.truncation_side)


def _columns(encodings: Sequence[Encoding], call: CallOptions) -> dict[str, Any]:
    columns: dict[str, Any] = {"input_ids": [encoding.ids for encoding in encodings]}
    if call.return_token_type_ids:
        columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
    if call.return_attention_mask:
        columns["attention_mask"] = [encoding.attention_mask for encoding in encodings]
    if call.return_special_tokens_mask:
        columns["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
    if call.return_offsets_mapping:
        columns["offset_mapping"] = [encoding.offsets for encoding in encodings]
    if call.return_length:
        columns["length"] = [len(encoding) for encoding in encodings]
    return columns


class _SingleThreadedFork:
    """Has a process forked from here tokenize without threads, as threads do not survive a fork.

    The library does the same by itself, but warns on stderr each time. A setting of the user's is left as it is.
    """

    def __init__(self) -> None:
        self._is_ours = False

    def before(self) -> None:
        self._is_ours = _PARALLELISM not in os.environ
        if self._is_ours:
            os.environ[_PARALLELISM] = "false"

    def after_in_parent(self) -> None:
        if self._is_ours:
            os.environ.pop(_PARALLELISM, None)


if hasattr(os, "register_at_fork"):
    _fork = _SingleThreadedFork()
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.after_in_parent)
