"""Folders of BERT's, RoFormer's and RoCBert's tokenizers: read by transformers, read from it, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from models import load_tokenizer
from models.bert import BertTokenizer, BertTokenizerFast
from models.rocbert import RoCBertTokenizer
from models.roformer import RoFormerTokenizer, RoFormerTokenizerFast
from tests.support.chinese_texts import CHINESE_TEXTS, SENTENCES, write_wordpiece_files
from tests.support.reference import v4
from tests.support.tokenizer_calls import Call, call, reference_calls, reference_save, run_calls

FAMILIES: dict[Any, str] = {
    BertTokenizer: "bert",
    BertTokenizerFast: "bert",
    RoFormerTokenizer: "roformer",
    RoFormerTokenizerFast: "roformer",
    RoCBertTokenizer: "roc_bert",
}
ANY = pytest.mark.parametrize("tokenizer_class", list(FAMILIES), ids=lambda one: str(one.__name__))
FAST = [BertTokenizerFast, RoFormerTokenizerFast]
ENCODE = [call(text) for text in CHINESE_TEXTS[::3]] + [call("newtok <x> 我的NEWTOK", "pair")]
ASK = [Call(one) for one in ("__len__", "model_max_length", "additional_special_tokens", "mask_token_id")]
ASK += [Call("padding_side"), Call("do_lower_case")]
SETTINGS: dict[str, Any] = {"model_max_length": 77, "padding_side": "left", "do_lower_case": False}


def write(tokenizer_class: Any, folder: Path) -> Path:
    return write_wordpiece_files(folder, family=FAMILIES[tokenizer_class])


def changed(tokenizer_class: Any, folder: Path) -> Any:
    """A tokenizer with settings and added tokens of its own."""
    tokenizer = tokenizer_class.from_pretrained(write(tokenizer_class, folder), **SETTINGS)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]})
    tokenizer.add_tokens(["newtok", AddedToken("lone", single_word=True)])
    return tokenizer


@ANY
def test_v4_reads_ours(tokenizer_class: Any, tmp_path: Path) -> None:
    tokenizer = changed(tokenizer_class, tmp_path / "model")
    before = run_calls(tokenizer, ENCODE + ASK)
    written = tokenizer.save_pretrained(tmp_path / "saved")
    assert all(Path(path).exists() for path in written)
    assert run_calls(tokenizer, ENCODE + ASK) == before  # saving changes nothing
    assert run_calls(tokenizer_class.from_pretrained(tmp_path / "saved"), ENCODE + ASK) == before
    assert v4(reference_calls, tokenizer_class.__name__, tmp_path / "saved", {}, ENCODE + ASK) == before


@ANY
def test_ours_reads_v4(tokenizer_class: Any, tmp_path: Path) -> None:
    name, folder = tokenizer_class.__name__, write(tokenizer_class, tmp_path / "model")
    v4(reference_save, name, folder, tmp_path / "saved", {"strip_accents": False, "model_max_length": 99})
    ours = tokenizer_class.from_pretrained(tmp_path / "saved")
    assert run_calls(ours, ENCODE + ASK) == v4(reference_calls, name, tmp_path / "saved", {}, ENCODE + ASK)


@pytest.mark.parametrize("tokenizer_class", FAST, ids=lambda one: str(one.__name__))
def test_v5_reads_ours(tokenizer_class: Any, tmp_path: Path) -> None:
    tokenizer = tokenizer_class.from_pretrained(write(tokenizer_class, tmp_path / "model"))
    tokenizer.save_pretrained(tmp_path / "saved")
    questions = [call(text, return_token_type_ids=True) for text in CHINESE_TEXTS[::3]]
    assert reference_calls(tokenizer_class.__name__, tmp_path / "saved", {}, questions) == run_calls(
        tokenizer, questions
    )


@ANY
def test_ours_reads_v5(tokenizer_class: Any, tmp_path: Path) -> None:
    """v5 writes `tokenizer.json` alone for BERT and RoFormer."""
    name, folder = tokenizer_class.__name__, write(tokenizer_class, tmp_path / "model")
    original = tokenizer_class.from_pretrained(folder)
    files = reference_save(name.removesuffix("Fast"), folder, tmp_path / "saved", {"model_max_length": 99})
    assert ("vocab.txt" in files) == (name == "RoCBertTokenizer")
    ours = tokenizer_class.from_pretrained(tmp_path / "saved")
    assert run_calls(ours, ENCODE) == run_calls(original, ENCODE)


@ANY
def test_same_files_as_v4(tokenizer_class: Any, tmp_path: Path) -> None:
    folder = write(tokenizer_class, tmp_path / "model")
    v4(reference_save, tokenizer_class.__name__, folder, tmp_path / "theirs", {"model_max_length": 99})
    tokenizer_class.from_pretrained(folder, model_max_length=99).save_pretrained(tmp_path / "ours")
    theirs = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "theirs").iterdir()}
    ours = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "ours").iterdir()}
    assert sorted(ours) == sorted(theirs)
    for name, content in ours.items():
        if name in ("vocab.txt", "word_shape.json", "word_pronunciation.json"):
            assert content == theirs[name]
        elif name == "tokenizer.json":
            assert _backend(content) == _backend(theirs[name])
        else:
            assert _settings(content) == _settings(theirs[name]), name


def _settings(content: str) -> dict[str, Any]:
    """Settings by name; the reference gives flags of a special token only where they were given to it."""
    settings = json.loads(content)
    settings |= {name: one["content"] for name, one in settings.items() if isinstance(one, dict) and "lstrip" in one}
    # Arguments of the slow class, which the reference's fast one passes on when it reads `vocab.txt`.
    return {name: one for name, one in settings.items() if name not in ("do_basic_tokenize", "never_split")}


def _backend(content: str) -> dict[str, Any]:
    """What a tokenizer.json says; versions of the library write what is not set in other ways."""
    return {name: part for name, part in json.loads(content).items() if part and name != "version"}


def test_jieba_is_put_back(tmp_path: Path) -> None:
    """A folder with `tokenizer.json` alone, which names another pre-tokenizer."""
    tokenizer = RoFormerTokenizerFast.from_pretrained(write(RoFormerTokenizerFast, tmp_path / "model"))
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "vocab.txt").unlink()
    content = json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["pre_tokenizer"] == {"type": "BertPreTokenizer"}
    again = RoFormerTokenizerFast.from_pretrained(tmp_path / "saved")
    assert (
        again.tokenize(SENTENCES[0]) == tokenizer.tokenize(SENTENCES[0]) == ["今", "天", "天", "气", "非常", "好", "。"]
    )
    slow = RoFormerTokenizer.from_pretrained(tmp_path / "saved")
    assert slow.tokenize(SENTENCES[0]) == tokenizer.tokenize(SENTENCES[0])
    assert again.backend_tokenizer.encode(SENTENCES[0]).ids == tokenizer.encode(SENTENCES[0])


@ANY
def test_ids_stay_where_the_vocabulary_has_gaps(tokenizer_class: Any, tmp_path: Path) -> None:
    """Of a token that stands twice the last line counts; saving must not move the ids after it."""
    folder = write(tokenizer_class, tmp_path / "model")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join([*lines[:9], lines[20], *lines[9:]]) + "\n", encoding="utf-8")
    tokenizer = tokenizer_class.from_pretrained(folder)
    (path, *_) = tokenizer.save_vocabulary(str(tmp_path), "zh")
    assert Path(path).name == "zh-vocab.txt"
    assert Path(path).read_text(encoding="utf-8").splitlines()[20:] == [*lines[19:]]
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").unlink(missing_ok=True)
    assert tokenizer_class.from_pretrained(tmp_path / "saved").get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("family", ["bert", "roformer", "roc_bert"])
def test_load_tokenizer(family: str, tmp_path: Path) -> None:
    folder = write_wordpiece_files(tmp_path, family=family)
    expected = {"bert": BertTokenizerFast, "roformer": RoFormerTokenizerFast, "roc_bert": RoCBertTokenizer}[family]
    assert type(load_tokenizer(folder)) is expected
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert type(load_tokenizer(folder)) is BertTokenizerFast
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert type(load_tokenizer(folder)) is expected
