"""`annotate` labels a list of texts in this process, one row for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import annotate
from jobs.ner import NerTask
from models import load_model, load_tokenizer
from pipeline.errors import SpecError
from tests.support.hf_pipelines import NER_LABELS, build_byte_level_tokenizer, build_model
from tests.support.reference import v4

NER = {"type": "ner", "ignore_labels": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotate")
    v4(build_model, folder, "RobertaForTokenClassification", id2label=dict(enumerate(NER_LABELS)))
    v4(build_byte_level_tokenizer, folder)
    return folder


def test_every_text_has_its_row(model: Path) -> None:
    table = annotate(["Ada", None, " \n", "", "Charles in London"], model=model, task=NER)
    assert isinstance(table, pa.Table)
    assert table.column_names == ["entities", "error"]
    assert table["error"].to_pylist() == [None, "text is null", "text is empty", "text is empty", None]
    assert [row is None for row in table["entities"].to_pylist()] == [False, True, True, True, False]


@pytest.mark.parametrize("texts", [[], [None], [""]])
def test_nothing_to_do(model: Path, texts: list[Any]) -> None:
    table = annotate(texts, model=model, task=NER)
    assert table["entities"].to_pylist() == [None] * len(texts)


def test_a_loaded_model(model: Path) -> None:
    loaded = load_model(model, task="token-classification"), load_tokenizer(model)
    texts = ["Ada Lovelace in London", "x " * 200]
    by_path = annotate(texts, model=str(model), task=NER)
    assert annotate(iter(texts), model=loaded, task=NerTask(ignore_labels=())).equals(by_path)


def test_more_texts_than_a_window_of_rows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"number {n}" for n in range(10)]
    whole = annotate(texts, model=model, task=NER)
    monkeypatch.setattr("jobs.api.WINDOW_ROWS", 3)
    parts = annotate(texts, model=model, task=NER)
    assert parts["entities"].num_chunks == 4
    assert [[e["start"] for e in row] for row in parts["entities"].to_pylist()] == [
        [e["start"] for e in row] for row in whole["entities"].to_pylist()
    ]


def test_pairs(model: Path) -> None:
    vectors = annotate([("Ada", "Charles"), ("Ada", None), (None, "x")], model=model, task={"type": "embed"})
    assert vectors["error"].to_pylist() == [None, None, "text is null"]
    with pytest.raises(SpecError, match="task: ner takes single texts, not pairs"):
        annotate([("Ada", "Charles")], model=model, task=NER)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("Ada", "expected a list of texts, found a single one"),
        (["Ada", ("a", "b")], "texts, or pairs of two texts each, and not both"),
        ([("a", "b", "c")], "texts, or pairs of two texts each, and not both"),
        (["Ada", 3, 2.5], r"expected texts, or pairs \(tuples\) of them, found float, int"),
        ([("Ada", 3)], r"expected texts, or pairs \(tuples\) of them, found int"),
        (["\ud800"], "not valid Unicode"),
    ],
)
def test_wrong_texts(model: Path, texts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        annotate(texts, model=model, task=NER)


def test_wrong_task(model: Path) -> None:
    with pytest.raises(SpecError, match=r"task: type: expected one of classify, embed, ner, found \"nerr\""):
        annotate(["Ada"], model=model, task={"type": "nerr"})
    with pytest.raises(SpecError, match="model: path: a URL may hold no signature") as refusal:
        annotate(["Ada"], model="https://host/model?sig=hush", task=NER)
    assert "hush" not in str(refusal.value)
