"""Folders that our tokenizers write are read by transformers v4 and v5, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, pre_tokenizers, processors

from models import load_tokenizer
from models.roberta.tokenizer import RobertaTokenizer, RobertaTokenizerFast
from tests.support.reference import v4
from tests.support.tokenizer_calls import Call, call, reference_calls, reference_save, run_calls
from tests.support.tokenizer_texts import AWKWARD_TEXTS, write_byte_level_files

CLASSES: dict[str, Any] = {"RobertaTokenizer": RobertaTokenizer, "RobertaTokenizerFast": RobertaTokenizerFast}
ANY = pytest.mark.parametrize("name", list(CLASSES))
ENCODE = [call(text) for text in AWKWARD_TEXTS] + [call("newtok <x> mynewtok", "pair")]
ASK = [
    Call("__len__"),
    Call("model_max_length"),
    Call("additional_special_tokens"),
    Call("mask_token_id"),
    Call("padding_side"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level_files(tmp_path_factory.mktemp("roberta"))


def changed(name: str, folder: Path) -> Any:
    """A tokenizer with settings and added tokens of its own."""
    tokenizer = CLASSES[name].from_pretrained(folder, model_max_length=77, padding_side="left")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]})
    tokenizer.add_tokens(["newtok", AddedToken("lone", single_word=True)])
    return tokenizer


@ANY
def test_v4_reads_ours(name: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = changed(name, folder)
    written = tokenizer.save_pretrained(tmp_path)
    assert all(Path(path).exists() for path in written)
    assert v4(reference_calls, name, tmp_path, {}, ENCODE + ASK) == run_calls(tokenizer, ENCODE + ASK)
    assert run_calls(CLASSES[name].from_pretrained(tmp_path), ENCODE + ASK) == run_calls(tokenizer, ENCODE + ASK)


@ANY
def test_v5_reads_ours(name: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = changed(name, folder)
    tokenizer.save_pretrained(tmp_path)
    fast = tokenizer if name.endswith("Fast") else RobertaTokenizerFast.from_pretrained(tmp_path)
    questions = ENCODE + [question for question in ASK if question.method != "additional_special_tokens"]
    assert reference_calls(name, tmp_path, {}, questions) == run_calls(fast, questions)


@ANY
def test_ours_reads_v4(name: str, folder: Path, tmp_path: Path) -> None:
    v4(reference_save, name, folder, tmp_path, {"add_prefix_space": True, "model_max_length": 99})
    ours = CLASSES[name].from_pretrained(tmp_path)
    assert run_calls(ours, ENCODE + ASK) == v4(reference_calls, name, tmp_path, {}, ENCODE + ASK)


@ANY
def test_ours_reads_v5(name: str, folder: Path, tmp_path: Path) -> None:
    files = reference_save("RobertaTokenizer", folder, tmp_path, {"model_max_length": 99})
    assert "vocab.json" not in files  # v5 writes tokenizer.json alone
    original = CLASSES[name].from_pretrained(folder)
    without_mask = [one for one in ENCODE if "<mask>" not in one.args[0]]  # v5 makes it without lstrip
    assert run_calls(CLASSES[name].from_pretrained(tmp_path), without_mask) == run_calls(original, without_mask)


@ANY
def test_same_files_as_v4(name: str, folder: Path, tmp_path: Path) -> None:
    v4(reference_save, name, folder, tmp_path / "theirs", {"model_max_length": 99})
    CLASSES[name].from_pretrained(folder, model_max_length=99).save_pretrained(tmp_path / "ours")
    theirs = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "theirs").iterdir()}
    ours = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "ours").iterdir()}
    assert sorted(ours) == sorted(theirs)
    assert ours["merges.txt"] == theirs["merges.txt"]
    if name == "RobertaTokenizer":  # the fast class writes the vocabulary on one line
        assert ours["vocab.json"] == theirs["vocab.json"]
    for file in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert json.loads(ours[file]) == json.loads(theirs[file])


@ANY
def test_save_vocabulary(name: str, folder: Path, tmp_path: Path) -> None:
    paths = CLASSES[name].from_pretrained(folder).save_vocabulary(str(tmp_path), "en")
    assert [Path(path).name for path in paths] == ["en-vocab.json", "en-merges.txt"]
    again = CLASSES[name](*paths)
    assert again.get_vocab() == CLASSES[name].from_pretrained(folder).get_vocab()


def test_older_folder(folder: Path, tmp_path: Path) -> None:
    """Without `added_tokens_decoder`, flags and added tokens stand in files of their own."""
    tokenizer = changed("RobertaTokenizer", folder)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["added_tokens_decoder"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    again = RobertaTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.encode("a <mask> newtok <x>") == tokenizer.encode("a <mask> newtok <x>")
    assert again.additional_special_tokens == ["<x>"]


def test_a_tokenizer_json_of_its_own_kind(folder: Path, tmp_path: Path) -> None:
    """Another way to split, and another layout, are kept."""
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", tokenizer.sep_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    calls = [call(text, return_offsets_mapping=True, return_token_type_ids=True) for text in AWKWARD_TEXTS]
    calls += [call("a 12", "b", return_token_type_ids=True, truncation=True, max_length=n) for n in (4, 5, 20)]
    ours = RobertaTokenizerFast.from_pretrained(tmp_path)
    assert run_calls(ours, calls) == v4(reference_calls, "RobertaTokenizerFast", tmp_path, {}, calls)
    flat = ours.encode_flat(AWKWARD_TEXTS, offsets=True)
    assert flat.offsets is not None
    spans = ours(AWKWARD_TEXTS, return_offsets_mapping=True)["offset_mapping"]
    assert flat.offsets.tolist() == [list(span) for row in spans for span in row]
    pairs = ours.encode_flat(["a 12"], ["b"])
    assert pairs.token_type_ids is not None
    assert pairs.token_type_ids.tolist() == ours("a 12", "b", return_token_type_ids=True)["token_type_ids"]


def test_load_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, RobertaTokenizerFast)
    assert tokenizer.name_or_path == str(folder)
