"""One tokenizer in several threads and processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.bert import BertTokenizer, BertTokenizerFast
from models.roberta import RobertaTokenizer, RobertaTokenizerFast
from models.rocbert import RoCBertTokenizer
from models.roformer import RoFormerTokenizer, RoFormerTokenizerFast
from tests.support.chinese_texts import SENTENCES, write_wordpiece_files
from tests.support.tokenizer_texts import AWKWARD_TEXTS, write_byte_level_files

CLASSES = [
    RobertaTokenizer,
    RobertaTokenizerFast,
    BertTokenizer,
    BertTokenizerFast,
    RoFormerTokenizer,
    RoFormerTokenizerFast,
    RoCBertTokenizer,
]
FOR_JOBS = [RobertaTokenizerFast, BertTokenizerFast, RoFormerTokenizerFast, RoCBertTokenizer]
TEXTS = [*AWKWARD_TEXTS, *SENTENCES]

FORK_AFTER_USE = """
import os, sys
import models.roberta, models.roformer
tokenizer_class = getattr(models, sys.argv[2])
tokenizer = getattr(tokenizer_class, sys.argv[3]).from_pretrained(sys.argv[1])
texts = ["some text, 今天天气非常好"] * 4000
expected = tokenizer.encode_flat(texts).input_ids.tolist(), tokenizer(texts[:99])["input_ids"]
child = os.fork()
if child == 0:
    found = tokenizer.encode_flat(texts).input_ids.tolist(), tokenizer(texts[:99])["input_ids"]
    os._exit(0 if found == expected else 1)
_, status = os.waitpid(child, 0)
assert "TOKENIZERS_PARALLELISM" not in os.environ
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordpiece_files(write_byte_level_files(tmp_path_factory.mktemp("all")), family="roc_bert")


def encode(tokenizer: Any) -> list[list[int]]:
    return list(tokenizer(TEXTS)["input_ids"])


def encode_flat(tokenizer: Any) -> list[int]:
    flat = tokenizer.encode_flat(TEXTS)
    return [number for array in (flat.input_ids, *flat.extras.values()) for number in array.tolist()]


@pytest.mark.parametrize("tokenizer_class", CLASSES)
def test_pickles_with_what_was_added(tokenizer_class: Any, folder: Path) -> None:
    tokenizer = tokenizer_class.from_pretrained(folder, truncation_side="left")
    tokenizer.add_tokens(["newtok"])
    encode(tokenizer)  # fills what is cached
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert encode(again) == encode(tokenizer)
        assert again.encode("a newtok") == tokenizer.encode("a newtok")
        assert again.truncation_side == "left"
        assert again.special_tokens_map == tokenizer.special_tokens_map


@pytest.mark.parametrize("tokenizer_class", CLASSES)
def test_encodings_pickle(tokenizer_class: Any, folder: Path) -> None:
    encoding = tokenizer_class.from_pretrained(folder)(["some text", "more of it"], padding=True, return_tensors="pt")
    again = pickle.loads(pickle.dumps(encoding))
    assert (again["input_ids"] == encoding["input_ids"]).all()
    assert again.is_fast == encoding.is_fast
    if again.is_fast:
        assert again.tokens(1) == encoding.tokens(1)


def test_works_in_a_spawned_process(folder: Path) -> None:
    tokenizers = [tokenizer_class.from_pretrained(folder) for tokenizer_class in FOR_JOBS]
    for tokenizer in tokenizers:
        encode_flat(tokenizer)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for tokenizer in tokenizers:
            assert pool.apply(encode, (tokenizer,)) == encode(tokenizer)
            assert pool.apply(encode_flat, (tokenizer,)) == encode_flat(tokenizer)


@pytest.mark.parametrize(
    ("family", "name"), [("roberta", "RobertaTokenizerFast"), ("roformer", "RoFormerTokenizerFast")]
)
def test_works_in_a_forked_process_without_a_warning(family: str, name: str, folder: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FORK_AFTER_USE, str(folder), family, name]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("tokenizer_class", FOR_JOBS)
def test_threads_do_not_disturb_each_other(tokenizer_class: Any, folder: Path) -> None:
    tokenizer = tokenizer_class.from_pretrained(folder)
    texts = TEXTS[-40:]

    def flat(_: int) -> list[int]:
        return list(tokenizer.encode_flat(texts).input_ids.tolist())

    def cut(max_length: int) -> list[list[int]]:
        return list(tokenizer(texts, truncation=True, max_length=max_length, padding=True)["input_ids"])

    other = tokenizer_class.from_pretrained(folder)  # nothing is known yet to the one that the threads share
    expected_flat = other.encode_flat(texts).input_ids.tolist()
    expected_cut = [other(texts, truncation=True, max_length=n, padding=True)["input_ids"] for n in range(4, 12)]
    with ThreadPoolExecutor(4) as threads:
        whole = [threads.submit(flat, n) for n in range(8)]
        assert list(threads.map(cut, range(4, 12))) == expected_cut
        assert all(one.result() == expected_flat for one in whole)
