"""The fast tokenizers over a WordPiece vocabulary: what BERT and RoFormer share."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece as BackendWordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from models.tokenization.characters import CharacterTable, Kind, ReadCharacter
from models.tokenization.fast import PreTrainedTokenizerFast, read_backend
from models.tokenization.files import TOKENIZER_FILE
from models.tokenization.flat_pieces import FlatPieces, FlatWords, encode_texts, find_texts
from models.tokenization.memo import CutPieces, PieceMemo, one_by_one
from models.tokenization.special_tokens import as_added_token
from models.tokenization.windows import FlatTokens
from models.tokenization.wordpiece import CONTINUES, VOCAB_FILE, WordPiece, read_vocabulary, write_vocabulary


class WordPieceTokenizerFast(PreTrainedTokenizerFast):
    """BERT's normalisation and WordPiece; `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]` with token types 0 and 1."""

    vocab_files_names: ClassVar[Mapping[str, str]] = {"vocab_file": VOCAB_FILE, "tokenizer_file": TOKENIZER_FILE}
    spaces_ideographs: ClassVar[bool] = True  # `tokenize_chinese_chars` puts blanks around ideographs first of all

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        do_lower_case: bool = True,
        unk_token: str | AddedToken = "[UNK]",
        sep_token: str | AddedToken = "[SEP]",
        pad_token: str | AddedToken = "[PAD]",
        cls_token: str | AddedToken = "[CLS]",
        mask_token: str | AddedToken = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        **options: Any,
    ) -> None:
        """Reads `tokenizer.json`, or where that is missing `vocab.txt`.

        Args:
            vocab_file: path of `vocab.txt`.
            tokenizer_file: path of `tokenizer.json`; the settings below win over what it says.
            do_lower_case: lower the text.
            unk_token: stands for a word that the vocabulary lacks.
            sep_token: stands after each text.
            pad_token: fills short rows of a batch.
            cls_token: stands first.
            mask_token: stands for a token to be predicted.
            tokenize_chinese_chars: cut around ideographs.
            strip_accents: remove accents; None means if the text is lowered.
            **options: those of the base class.
        """
        roles: dict[str, Any] = {"unk_token": unk_token, "sep_token": sep_token, "pad_token": pad_token}
        roles |= {"cls_token": cls_token, "mask_token": mask_token}
        if tokenizer_file is not None:
            backend = read_backend(tokenizer_file)
        else:
            tokens = {role: as_added_token(token, special=True) for role, token in roles.items() if token is not None}
            backend = _build_backend(read_vocabulary(vocab_file), tokens)
        normalizer = backend.normalizer
        if isinstance(normalizer, BertNormalizer):  # a tokenizer.json may normalise in its own way
            backend.normalizer = BertNormalizer(
                clean_text=normalizer.clean_text,
                handle_chinese_chars=tokenize_chinese_chars
                if self.spaces_ideographs
                else normalizer.handle_chinese_chars,
                strip_accents=strip_accents,
                lowercase=do_lower_case,
            )
        self.do_lower_case = do_lower_case
        saved: dict[str, Any] = {
            "do_lower_case": do_lower_case,
            "tokenize_chinese_chars": tokenize_chinese_chars,
            "strip_accents": strip_accents,
        }
        super().__init__(tokenizer_object=backend, **roles, **saved, **options)

    # -- the pipeline's path -------------------------------------------------------------------------------------------

    def _flat_tokens(self, texts: Sequence[str], *, with_offsets: bool) -> FlatTokens:
        encode = partial(super()._flat_tokens, with_offsets=with_offsets)
        pieces = self._flat_pieces
        if pieces is None:
            return encode(texts)
        return encode_texts(texts, pieces, self._has_added_tokens(texts, pieces), encode, with_offsets=with_offsets)

    @cached_property
    def _flat_pieces(self) -> FlatPieces | None:
        """None where the library does not cut text as BERT does: then it is asked itself."""
        is_expected = self._normalizes_as_bert and isinstance(self._backend.pre_tokenizer, BertPreTokenizer)
        return FlatWords(CharacterTable(self._read_character), PieceMemo(self._cut_words)) if is_expected else None

    @property
    def _normalizer(self) -> Any:
        return self._backend.normalizer

    @property
    def _normalizes_as_bert(self) -> bool:
        """Whether the backend reads text as this class does, and all words have tokens."""
        backend: Any = self._backend
        return (
            isinstance(backend.normalizer, BertNormalizer)
            and isinstance(backend.model, BackendWordPiece)
            and backend.token_to_id(backend.model.unk_token) is not None
        )

    def _has_added_tokens(self, texts: Sequence[str], pieces: FlatPieces) -> npt.NDArray[np.bool_]:
        """Marks the texts [M] that may have added tokens in them, which are cut out before anything else."""
        tokens = self.added_tokens_decoder.values()
        found = find_texts(texts, [token.content for token in tokens if not token.normalized])
        changed = [token.content for token in tokens if token.normalized]
        if changed:  # looked for in the changed text; blanks are left out, as the library puts some around ideographs
            packed = [text.replace(" ", "") for text in pieces.normalized([*changed, *texts])]
            found |= find_texts(packed[len(changed) :], packed[: len(changed)])
        return found

    def _normalize_character(self, char: str) -> str | None:
        """What the library makes of a character; None if that depends on its neighbours."""
        normalizer = self._normalizer
        try:
            becomes: str = normalizer.normalize_str(char)
        except UnicodeEncodeError:  # half of a surrogate pair, which the library refuses
            return None
        strips = normalizer.lowercase if normalizer.strip_accents is None else normalizer.strip_accents
        # Stripping decomposes, and decomposing may change the order of marks.
        return None if strips and any(map(unicodedata.combining, becomes)) else becomes

    def _read_character(self, char: str) -> list[ReadCharacter] | None:
        becomes = self._normalize_character(char)
        if becomes is None:
            return None
        if len(becomes) == 3 and becomes == f" {becomes[1]} ":  # an ideograph
            return [self._alone(becomes[1])]
        read = [self._read_normalized(part) for part in becomes]
        is_clear = all(one.kind is not Kind.IN_WORD or not one.char.isspace() for one in read)
        return read if is_clear else None

    def _read_normalized(self, char: str) -> ReadCharacter:
        parts = len(_BERT_SPLITTER.pre_tokenize_str(f"a{char}a"))
        if parts == 3:
            return self._alone(char)
        return ReadCharacter(char, Kind.IN_WORD if parts == 1 else Kind.BLANK)

    def _alone(self, char: str) -> ReadCharacter:
        return ReadCharacter(char, Kind.ALONE, self._cut_word(char)[0])

    def _cut_word(self, word: str) -> list[int]:
        ids, pieces = self._vocabulary, self._wordpiece.pieces(word)
        return [number for token, start, end in pieces for number in (ids[token], start, end)]

    def _cut_words(self, words: Sequence[str]) -> CutPieces:
        """The same for many, in the library, which is several times faster; no word has white space."""
        texts = [" ".join(words[i : i + _WORDS_AT_ONCE]) for i in range(0, len(words), _WORDS_AT_ONCE)]
        encodings = self._word_cutter.encode_batch_fast(texts, add_special_tokens=False)
        ids = np.concatenate([np.array(encoding.ids, dtype=np.int32) for encoding in encodings])
        begins, token_lengths = self._pieces_of_id
        (firsts,) = np.nonzero(begins[ids])
        if len(firsts) != len(words):  # the tokens do not show where a word begins
            return one_by_one(self._cut_word)(words)
        counts = np.diff(firsts, append=len(ids))
        # A token alone is a whole word, whatever its string: it may be the unknown one.
        is_whole = counts == 1
        lengths = token_lengths[ids]
        lengths[firsts[is_whole]] = np.fromiter(map(len, words), np.int32, count=len(words))[is_whole]
        ends = np.cumsum(lengths, dtype=np.int32)
        starts = ends - lengths
        before = np.repeat(starts[firsts], counts)
        return CutPieces(counts, ids, starts - before, ends - before)

    @cached_property
    def _word_cutter(self) -> Tokenizer:
        cutter = Tokenizer(self._backend.model)
        cutter.pre_tokenizer = WhitespaceSplit()
        return cutter

    @cached_property
    def _pieces_of_id(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
        """Of each id: whether it begins a word [V], and how many characters of the word it stands for [V]."""
        prefix = self.continuing_subword_prefix
        size = max(self._vocabulary.values(), default=-1) + 1
        begins, lengths = np.ones(size, dtype=np.bool_), np.zeros(size, dtype=np.int32)
        for token, i in self._vocabulary.items():
            begins[i] = not token.startswith(prefix)
            lengths[i] = len(token.removeprefix(prefix))
        return begins, lengths

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        """Token -> id, without added tokens."""
        return self._backend.get_vocab(with_added_tokens=False)

    @cached_property
    def _wordpiece(self) -> WordPiece:
        model: Any = self._backend.model
        return WordPiece(
            self._vocabulary,
            model.unk_token,
            max_input_chars_per_word=model.max_input_chars_per_word,
            continuing_subword_prefix=model.continuing_subword_prefix,
        )

    # -- files ---------------------------------------------------------------------------------------------------------

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes `vocab.txt`, without added tokens; returns its path."""
        return (write_vocabulary(self._vocabulary, save_directory, filename_prefix),)


_BERT_SPLITTER = BertPreTokenizer()
_WORDS_AT_ONCE = 1000  # in a text that the library cuts: enough for each call to pay, few enough for several threads


def _build_backend(vocabulary: Mapping[str, int], roles: Mapping[str, AddedToken]) -> Tokenizer:
    backend = Tokenizer(BackendWordPiece(dict(vocabulary), unk_token=roles["unk_token"].content))
    backend.add_special_tokens(list(roles.values()))
    backend.normalizer = BertNormalizer(handle_chinese_chars=False)  # the settings of the class come after
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = WordPieceDecoder(prefix=CONTINUES)
    cls, sep = roles["cls_token"].content, roles["sep_token"].content
    backend.post_processor = TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", f"{sep}:0", "$B:1", f"{sep}:1"],
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
    return backend
