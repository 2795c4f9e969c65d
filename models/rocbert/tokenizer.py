"""RoCBert's tokenizer: BERT's tokens, and for each of them the ids of its shape and of its pronunciation.

It behaves as the class of the same name in transformers v4, which is a slow one. Flat arrays with offsets and windows,
which the pipeline needs, are ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import TokenizerError
from models.tokenization.arguments import CallOptions, Text, TextOrPair
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.files import read_json
from models.tokenization.padding import Columns
from models.tokenization.sequences import Ids
from models.tokenization.windows import FlatTokens, SequenceLayout
from models.tokenization.wordpiece import VOCAB_FILE
from models.tokenization.wordpiece_flat import FlatWordPieceTokenizer

SHAPE_FILE = "word_shape.json"
PRONUNCIATION_FILE = "word_pronunciation.json"
SHAPE_IDS = "input_shape_ids"
PRONUNCIATION_IDS = "input_pronunciation_ids"
_UNKNOWN = "[UNK]"  # in the maps, whatever the unknown token is called


class _Tokens(NamedTuple):
    """The tokens of a text: their ids, and those of their shapes and pronunciations."""

    ids: Ids
    extras: Mapping[str, Ids]


class RoCBertTokenizer(FlatWordPieceTokenizer):
    """RoCBert's tokenizer: `input_ids`, `input_shape_ids` and `input_pronunciation_ids`.

    A token's shape and pronunciation are looked up by its string. What a map lacks has the map's entry for `[UNK]`, and
    so have the special tokens that are put around the texts.
    """

    vocab_files_names: ClassVar[Mapping[str, str]] = {
        "vocab_file": VOCAB_FILE,
        "word_shape_file": SHAPE_FILE,
        "word_pronunciation_file": PRONUNCIATION_FILE,
    }
    token_type_ids_pattern = "bert_style"  # or "all_zeros", as in v5

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        word_shape_file: str | os.PathLike[str] | None = None,
        word_pronunciation_file: str | os.PathLike[str] | None = None,
        *args: Any,
        **options: Any,
    ) -> None:
        """Reads `vocab.txt`, `word_shape.json` and `word_pronunciation.json`.

        Args:
            vocab_file: path of `vocab.txt`.
            word_shape_file: path of `word_shape.json`, token -> id.
            word_pronunciation_file: path of `word_pronunciation.json`, token -> id.
            *args: the other arguments of `WordPieceTokenizer`, in its order.
            **options: the same by name.

        Raises:
            TokenizerError: a file is missing or cannot be read.
        """
        self.word_shape = _read_map(word_shape_file, SHAPE_FILE)
        self.word_pronunciation = _read_map(word_pronunciation_file, PRONUNCIATION_FILE)
        super().__init__(vocab_file, *args, **options)

    # -- shapes and pronunciations -------------------------------------------------------------------------------------

    def convert_tokens_to_shape_ids(self, tokens: Iterable[str]) -> Ids:
        """The shape id of each token."""
        return [self.word_shape.get(token, self.word_shape[_UNKNOWN]) for token in tokens]

    def convert_tokens_to_pronunciation_ids(self, tokens: Iterable[str]) -> Ids:
        """The pronunciation id of each token."""
        return [self.word_pronunciation.get(token, self.word_pronunciation[_UNKNOWN]) for token in tokens]

    def _layout(self, *, pair: bool) -> SequenceLayout:
        extras = {SHAPE_IDS: self.word_shape[_UNKNOWN], PRONUNCIATION_IDS: self.word_pronunciation[_UNKNOWN]}
        layout = replace(super()._layout(pair=pair), special_extras=extras)
        if self.token_type_ids_pattern == "bert_style":
            return layout
        no_types = tuple((0,) * len(run) for run in layout.special_ids)
        return replace(layout, special_types=no_types, text_types=(0,) * len(layout.text_types))

    def _fill_values(self) -> dict[str, int]:
        fill = super()._fill_values()
        return fill | {SHAPE_IDS: fill["input_ids"], PRONUNCIATION_IDS: fill["input_ids"]}

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _encode(self, rows: Sequence[TextOrPair], call: CallOptions, *, is_batch: bool) -> BatchEncoding:
        self._refuse_offsets(call)
        texts = iter(self._read([text for row in rows for text in row if text is not None], call))
        built = [self._build(next(texts), None if second is None else next(texts), call) for _, second in rows]
        return self._finish_rows(built, call) if is_batch else self._finish_row(built[0], call, prepend_batch_axis=True)

    def _read(self, texts: Sequence[Text], call: CallOptions) -> list[_Tokens]:
        plain = [text for text in texts if isinstance(text, str)]
        as_set = call.split_special_tokens == self.split_special_tokens and not call.tokenize_options
        if len(plain) < len(texts) or not as_set or self._basic.never_split:
            return [self._read_by_words(text, call) for text in texts]
        tokens = self._flat_tokens(plain, with_offsets=False)
        ids, extras = tokens.ids.tolist(), {name: values.tolist() for name, values in tokens.extras.items()}
        bounds = pairwise([0, *np.cumsum(tokens.lengths).tolist()])
        return [_Tokens(ids[a:b], {name: values[a:b] for name, values in extras.items()}) for a, b in bounds]

    def _read_by_words(self, text: Text, call: CallOptions) -> _Tokens:
        tokens = self._tokens(text, call)
        extras = {
            SHAPE_IDS: self.convert_tokens_to_shape_ids(tokens),
            PRONUNCIATION_IDS: self.convert_tokens_to_pronunciation_ids(tokens),
        }
        return _Tokens([self._known_id(token) for token in tokens], extras)

    def _build(self, first: _Tokens, second: _Tokens | None, call: CallOptions) -> Columns:
        """One row of columns, truncated and with special tokens, not padded."""
        row = self._build_row(first.ids, None if second is None else second.ids, call)
        for name, special_id in self._layout(pair=False).special_extras.items():
            ids, pair_ids, _, _ = self._truncate_row(
                first.extras[name], None if second is None else second.extras[name], call
            )
            row[name] = (
                self.build_inputs_with_special_tokens(ids, pair_ids, special_id, special_id)
                if call.add_special_tokens
                else ids + (pair_ids or [])
            )
        return row

    def build_inputs_with_special_tokens(
        self,
        token_ids_0: Ids,
        token_ids_1: Ids | None = None,
        cls_token_id: int | None = None,
        sep_token_id: int | None = None,
    ) -> Ids:
        """The ids of a text, or of a pair, with the special tokens around them, or what stands in their place."""
        ((cls_id,), (sep_id,)) = self._layout(pair=False).special_ids
        cls = [cls_id if cls_token_id is None else cls_token_id]
        sep = [sep_id if sep_token_id is None else sep_token_id]
        return cls + token_ids_0 + sep + ([] if token_ids_1 is None else token_ids_1 + sep)

    def prepare_for_model(  # type: ignore[override]  # three ids for each token, in the order of the reference
        self,
        ids: Ids,
        shape_ids: Ids,
        pronunciation_ids: Ids,
        pair_ids: Ids | None = None,
        pair_shape_ids: Ids | None = None,
        pair_pronunciation_ids: Ids | None = None,
        *,
        prepend_batch_axis: bool = False,
        **options: Any,
    ) -> BatchEncoding:
        """Truncates ids, adds special tokens and pads; `options` are those of a call on text.

        Tensors are without an axis for the batch unless `prepend_batch_axis` asks for it.
        """
        call = self._call_options(**options)
        first = _Tokens(ids, {SHAPE_IDS: shape_ids, PRONUNCIATION_IDS: pronunciation_ids})
        second = None
        if pair_ids is not None:
            extras = {SHAPE_IDS: pair_shape_ids or [], PRONUNCIATION_IDS: pair_pronunciation_ids or []}
            second = _Tokens(pair_ids, extras)
        return self._finish_row(self._build(first, second, call), call, prepend_batch_axis=prepend_batch_axis)

    # -- the pipeline's path -------------------------------------------------------------------------------------------

    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        tokens = super()._flat_tokens(texts, with_offsets=with_offsets)
        return replace(tokens, extras={name: table[tokens.ids] for name, table in self._extras_of_id.items()})

    @cached_property
    def _extras_of_id(self) -> Mapping[str, npt.NDArray[np.int32]]:
        """[V] what each token has in each of the extras."""
        tokens = [self._tokens_by_id.get(i, _UNKNOWN) for i in range(max(self._tokens_by_id, default=-1) + 1)]
        return {
            SHAPE_IDS: np.array(self.convert_tokens_to_shape_ids(tokens), dtype=np.int32),
            PRONUNCIATION_IDS: np.array(self.convert_tokens_to_pronunciation_ids(tokens), dtype=np.int32),
        }

    # -- files ---------------------------------------------------------------------------------------------------------

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes `vocab.txt`, `word_shape.json` and `word_pronunciation.json`; returns their paths."""
        paths = list(super().save_vocabulary(save_directory, filename_prefix))
        for name, numbers in ((SHAPE_FILE, self.word_shape), (PRONUNCIATION_FILE, self.word_pronunciation)):
            path = Path(save_directory) / (f"{filename_prefix}-{name}" if filename_prefix else name)
            content = json.dumps(numbers, ensure_ascii=False, indent=4, separators=(", ", ": "))
            path.write_text(content, encoding="utf-8")
            paths.append(str(path))
        return tuple(paths)


def _read_map(path: str | os.PathLike[str] | None, name: str) -> dict[str, int]:
    if path is None:
        raise TokenizerError(f"expected {name} in the model's folder, found none; fetch the model's files again")
    numbers: dict[str, int] = read_json(Path(path))
    if _UNKNOWN not in numbers:
        raise TokenizerError(f"{path}: expected an entry for {_UNKNOWN}, found none; fetch the model's files again")
    return numbers
