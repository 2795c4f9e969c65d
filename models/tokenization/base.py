"""The surface that every tokenizer has, whatever turns its text into tokens: calls, vocabulary, files.

    SpecialTokens            tokens by role: pad_token, mask_token_id, ...
    └── IdSequences          token ids: special tokens around them, truncation, padding
        └── PreTrainedTokenizerBase   text: calls, decoding, vocabulary, files
            ├── PreTrainedTokenizer       in Python, behaves as Hugging Face's slow classes
            └── FlatTokenizer             flat arrays for the pipeline
                └── PreTrainedTokenizerFast   in Rust, behaves as their fast classes

A family's `XTokenizer` inherits from `PreTrainedTokenizer`, its `XTokenizerFast` from `PreTrainedTokenizerFast`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, overload

from tokenizers import AddedToken

from models.hub import Source
from models.tokenization import files
from models.tokenization.arguments import (
    NO_LIMIT,
    CallOptions,
    PaddingStrategy,
    Side,
    TensorType,
    Text,
    TextOrPair,
    read_texts,
    resolve_limits,
)
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.sequences import Ids, IdSequences
from models.tokenization.special_tokens import NAMES, as_added_token


class PreTrainedTokenizerBase(IdSequences):
    """A tokenizer: text to token ids and back."""

    vocab_files_names: ClassVar[Mapping[str, str]] = {}  # constructor argument -> file name
    default_special_tokens: ClassVar[Mapping[str, Any]] = {}  # for folders that do not say
    is_fast: ClassVar[bool]

    def __init__(
        self,
        *,
        model_max_length: int | None = None,
        padding_side: Side = "right",
        truncation_side: Side = "right",
        model_input_names: Sequence[str] | None = None,
        clean_up_tokenization_spaces: bool = False,
        split_special_tokens: bool = False,
        pad_token_type_id: int = 0,
        name_or_path: str = "",
        **init_kwargs: Any,
    ) -> None:
        """Takes the special tokens by role, and keeps any other argument to be saved with the tokenizer."""
        super().__init__()
        self.model_max_length = NO_LIMIT if model_max_length is None else model_max_length
        self.padding_side = padding_side
        self.truncation_side = truncation_side
        if model_input_names is not None:
            self.model_input_names = list(model_input_names)
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.split_special_tokens = split_special_tokens
        self.pad_token_type_id = pad_token_type_id
        self.name_or_path = name_or_path
        tokens = {**self.default_special_tokens, **init_kwargs}
        for role in NAMES:
            self._set_special_token(role, tokens.get(role))
        self.additional_special_tokens = tokens.get("additional_special_tokens")
        roles = (*NAMES, "additional_special_tokens")
        self.init_kwargs = {name: value for name, value in init_kwargs.items() if name not in roles}

    # -- files ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads a tokenizer from a folder or a Hub id.

        Args:
            path: the folder or the id.
            **kwargs: where to look (`revision`, `token`, `cache_dir`, `local_files_only`, `force_download`), and
                arguments of the constructor, which win over those in the files.

        Raises:
            ModelNotFound: no such folder or repository.
            TokenizerError: files are missing or unreadable.
        """
        source, arguments = Source.split(path, kwargs)
        found = {name: source.find(file) for name, file in cls.vocab_files_names.items()}
        vocabulary = {name: file for name, file in found.items() if file is not None}
        return cls(**{**vocabulary, "name_or_path": source.name, **files.read_arguments(source), **arguments})

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Writes the files that `from_pretrained`, ours and that of `transformers`, reads; returns their paths."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        config, special_tokens = (
            folder / f"{prefix}{files.CONFIG_FILE}",
            folder / f"{prefix}{files.SPECIAL_TOKENS_FILE}",
        )
        files.write_json(config, self._config())
        files.write_json(special_tokens, files.special_tokens_as_json(self.special_tokens_map_extended))
        written = [str(config), str(special_tokens), *self.save_vocabulary(str(folder), filename_prefix)]
        beyond = {token: i for token, i in self.get_added_vocab().items() if i >= self.vocab_size}
        if beyond:
            added = folder / f"{prefix}{files.ADDED_TOKENS_FILE}"
            files.write_json(added, beyond)
            written.append(str(added))
        return (*written, *self._save_backend(folder, prefix))

    def _config(self) -> dict[str, Any]:
        config = {
            **self.init_kwargs,
            **self.special_tokens_map,
            "added_tokens_decoder": {str(i): files.token_as_json(t) for i, t in self.added_tokens_decoder.items()},
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "extra_special_tokens": {},
            "model_max_length": self.model_max_length,
            "tokenizer_class": self._saved_class_name,
        }
        for name in ("padding_side", "truncation_side", "model_input_names", "split_special_tokens"):
            if name in self.__dict__ and getattr(self, name) != _DEFAULTS.get(name):
                config[name] = getattr(self, name)
        return config

    @property
    def _saved_class_name(self) -> str:
        return type(self).__name__.removesuffix("Fast")

    @abstractmethod
    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes the vocabulary alone, without added tokens and configuration; returns the paths."""

    def _save_backend(self, folder: Path, prefix: str) -> tuple[str, ...]:
        """Writes what only this kind of tokenizer has; returns the paths."""
        return ()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def __call__(
        self, text: Text | Sequence[Any], text_pair: Text | Sequence[Any] | None = None, **options: Any
    ) -> BatchEncoding:
        """Encodes a text, a pair, or a batch of either.

        Args:
            text: a str, or a list of them; a list of pairs; with `is_split_into_words` lists of words in their place.
            text_pair: the second text of each pair.
            **options: by name, as follows.
            add_special_tokens (True): put the family's special tokens around the texts.
            padding (False): True or "longest", "max_length", or False.
            truncation (None): True or "longest_first", "only_first", "only_second", or False.
            max_length: in tokens, special ones included; None means the tokenizer's `model_max_length`.
            stride (0): tokens that an overflowing window repeats from the one before.
            is_split_into_words (False): the texts are lists of words.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            padding_side: "left" or "right"; None means the tokenizer's.
            return_tensors: "pt", "np", or None for lists.
            return_token_type_ids: None means if the model takes them.
            return_attention_mask: None means if the model takes it.
            return_overflowing_tokens (False): also what was cut off: further rows with `overflow_to_sample_mapping`
                (fast), or the columns `overflowing_tokens` and `num_truncated_tokens` (slow).
            return_special_tokens_mask (False): also 1 for each special token that was put around the texts.
            return_offsets_mapping (False): also (start, end) of each token in characters of its text (fast only).
            return_length (False): also the number of tokens.
            split_special_tokens: read special tokens that stand in the text as ordinary text; None means as the
                tokenizer is set.
            Others go to the family's tokenizer (`add_prefix_space` of RobertaTokenizer).

        Raises:
            ValueError: not text, or options that contradict each other or the text's length.
            NotImplementedError: offsets asked of a slow tokenizer.
        """
        call = self._call_options(**options)
        rows, is_batch = read_texts(text, text_pair, is_split_into_words=call.is_split_into_words)
        return self._encode(rows, call, is_batch=is_batch)

    @abstractmethod
    def _encode(self, rows: Sequence[TextOrPair], call: CallOptions, *, is_batch: bool) -> BatchEncoding:
        """Encodes rows of text."""

    def _call_options(
        self,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_tensors: TensorType | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
        verbose: bool = True,  # accepted for compatibility
        **tokenize_options: Any,
    ) -> CallOptions:
        limits = resolve_limits(
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            model_max_length=self.model_max_length,
            stride=stride,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side or self.padding_side,
            truncation_side=self.truncation_side,
        )
        if limits.padding is not PaddingStrategy.DO_NOT_PAD:
            self._require_pad_token()

        def wanted(choice: bool | None, name: str) -> bool:
            return name in self.model_input_names if choice is None else choice

        return CallOptions(
            limits=limits,
            add_special_tokens=add_special_tokens,
            is_split_into_words=is_split_into_words,
            split_special_tokens=self.split_special_tokens if split_special_tokens is None else split_special_tokens,
            return_tensors=return_tensors,
            return_token_type_ids=wanted(return_token_type_ids, "token_type_ids"),
            asks_token_type_ids=bool(return_token_type_ids),
            return_attention_mask=wanted(return_attention_mask, "attention_mask"),
            return_overflowing_tokens=return_overflowing_tokens,
            return_special_tokens_mask=return_special_tokens_mask,
            return_offsets_mapping=return_offsets_mapping,
            return_length=return_length,
            tokenize_options=tokenize_options,
        )

    def encode(self, text: Text, text_pair: Text | None = None, **options: Any) -> Any:
        """The `input_ids` of one text or pair; `options` as in a call."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Text, text_pair: Text | None = None, **options: Any) -> BatchEncoding:
        """Encodes one text or pair; the older name of a call."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Sequence[Any], **options: Any) -> BatchEncoding:
        """Encodes a batch of texts or pairs; the older name of a call."""
        return self(list(batch_text_or_text_pairs), **options)

    @abstractmethod
    def tokenize(self, text: str, **options: Any) -> list[str]:
        """The tokens of a text, as strings, without special tokens around them."""

    # -- back to text --------------------------------------------------------------------------------------------------

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> str:
        """The text of token ids: of one, of a list, of an array or tensor.

        Args:
            token_ids: the ids.
            skip_special_tokens: leave the special tokens out.
            clean_up_tokenization_spaces: remove blanks before punctuation; None means as the tokenizer is set.
            **options: `spaces_between_special_tokens=False` (slow): no blanks around added tokens.
        """
        ids = _as_ids(token_ids)
        text = self._decode([ids] if isinstance(ids, int) else ids, skip_special_tokens, **options)
        cleans = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return self.clean_up_tokenization(text) if cleans else text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """The texts of rows of token ids."""
        return [self.decode(ids, skip_special_tokens, **options) for ids in _as_ids(sequences)]

    @abstractmethod
    def _decode(self, ids: Ids, skip_special_tokens: bool, **options: Any) -> str: ...

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """Removes blanks before English punctuation and contractions."""
        for spaced, joined in _CONTRACTIONS:
            out_string = out_string.replace(spaced, joined)
        return out_string

    @abstractmethod
    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens."""

    # -- vocabulary ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens, without those that were added."""

    @abstractmethod
    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of tokens, with those that were added."""

    def __bool__(self) -> bool:
        return True

    @property
    @abstractmethod
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> token with its flags, of the tokens that are cut out of the text first; in the order of ids."""

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Token -> id, of the tokens that are cut out of the text first; in the order of ids."""
        return {token.content: i for i, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """The same as `added_tokens_encoder`."""
        return self.added_tokens_encoder

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str] | tuple[str, ...]) -> int | list[int | None] | None:
        """The id of a token, or of each; that of the unknown token where the vocabulary lacks it."""
        return self._id_of(tokens) if isinstance(tokens, str) else [self._id_of(token) for token in tokens]

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str | None: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str | None]: ...
    def convert_ids_to_tokens(
        self, ids: int | Sequence[int], skip_special_tokens: bool = False
    ) -> str | list[str | None] | None:
        """The token of an id, or of each; None where the vocabulary lacks it."""
        plain = _as_ids(ids)
        if isinstance(plain, int):
            return self._token_of(plain)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token_of(token_id) for token_id in plain if token_id not in skipped]

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Adds tokens, which are cut out of a text before anything else; returns how many are new to the vocabulary."""
        tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        return self._add_tokens(tokens, special=special_tokens) if tokens else 0

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Gives tokens their roles and adds them; returns how many are new to the vocabulary.

        Args:
            special_tokens_dict: role -> token; `additional_special_tokens` -> list of tokens.
            replace_additional_special_tokens: False keeps the tokens without a role that are there already.

        Raises:
            ValueError: there is no such role.
        """
        added: list[AddedToken] = []
        for role, value in special_tokens_dict.items():
            if role == "additional_special_tokens":
                new = [as_added_token(token, special=True) for token in value]
                kept = [] if replace_additional_special_tokens else self._additional_special_tokens
                known = {token.content for token in kept}
                self.additional_special_tokens = [*kept, *(token for token in new if token.content not in known)]
                added += new
            elif role in NAMES:
                self._set_special_token(role, value)
                added.append(self._special_tokens[role])
            else:
                raise ValueError(
                    f"{role!r} is no role of a special token; roles: {', '.join(NAMES)}, additional_special_tokens"
                )
        return self.add_tokens(added, special_tokens=True)

    @abstractmethod
    def _add_tokens(self, tokens: list[str | AddedToken], *, special: bool) -> int: ...

    @classmethod
    def _derived(cls) -> set[str]:
        """The attributes that are cached: all of them follow from the vocabulary and the special tokens."""
        members = (member for kind in cls.__mro__ for member in vars(kind).items())
        return {name for name, member in members if isinstance(member, cached_property)}

    def _forget_derived(self) -> None:
        for name in self._derived():
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        derived = self._derived()  # some of it cannot be pickled
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map})"
        )


_DEFAULTS = {"padding_side": "right", "truncation_side": "right", "split_special_tokens": False}
_CONTRACTIONS = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def _as_ids(ids: Any) -> Any:
    """Plain integers instead of arrays and tensors."""
    return ids.tolist() if hasattr(ids, "tolist") else ids
