"""`classify` says what transformers' text classification pipeline says with the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import annotate
from tests.support.hf_pipelines import build_byte_level_tokenizer, build_model, text_classification
from tests.support.reference import v4

LABELS = ("bad", "so-so", "good", "LABEL_3")
TEXTS: list[str | tuple[str, str]] = ["Ada met Charles.", "no", "Łódź 🚀 </s> café", "東京", "a b c d e f"]
PAIRS: list[str | tuple[str, str]] = [
    ("Ada met Charles.", "They met."),
    ("no", "yes 🚀"),
    ("x", "a much longer second text, 3,000 km"),
]

Kind = tuple[str | None, int]  # problem type and number of labels


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """A model of every kind."""
    folders = {}
    for problem_type, num_labels in (
        (None, 4),
        (None, 1),
        ("single_label_classification", 4),
        ("multi_label_classification", 4),
        ("regression", 1),
    ):
        folder = tmp_path_factory.mktemp("classify")
        id2label = dict(enumerate(LABELS[:num_labels]))
        v4(
            build_model, folder, "RobertaForSequenceClassification",
            id2label=id2label, problem_type=problem_type, seed=num_labels,
        )  # fmt: skip
        v4(build_byte_level_tokenizer, folder)
        folders[problem_type, num_labels] = folder
    return folders


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("function", ["auto", "none", "softmax", "sigmoid"])
@pytest.mark.parametrize(
    "kind",
    [(None, 4), (None, 1), ("single_label_classification", 4), ("multi_label_classification", 4), ("regression", 1)],
)
def test_best_label(models: dict[Kind, Path], kind: Kind, function: str, texts: list[Any]) -> None:
    folder = models[kind]
    theirs = {} if function == "auto" else {"function_to_apply": function}
    rows = annotate(
        texts, model=folder, dtype="float32", task={"type": "classify", "function_to_apply": function}
    ).to_pylist()
    for row, (best,) in zip(rows, v4(text_classification, folder, texts, **theirs), strict=True):
        assert row["error"] is None
        assert row["score"] == pytest.approx(best["score"], abs=1e-5)
        if kind[0] == "regression":
            assert set(row) == {"score", "error"}
        else:
            assert row["label"] == best["label"]


@pytest.mark.parametrize("top_k", [1, 2, 99, "all"])
@pytest.mark.parametrize("function", ["auto", "none"])
@pytest.mark.parametrize("kind", [(None, 4), (None, 1), ("multi_label_classification", 4)])
def test_top_k(models: dict[Kind, Path], kind: Kind, function: str, top_k: Any) -> None:
    folder = models[kind]
    theirs = {} if function == "auto" else {"function_to_apply": function}
    task = {"type": "classify", "top_k": top_k, "function_to_apply": function}
    rows = annotate(TEXTS, model=folder, dtype="float32", task=task).to_pylist()
    expected = v4(text_classification, folder, TEXTS, top_k=None if top_k == "all" else top_k, **theirs)
    for row, labels in zip(rows, expected, strict=True):
        assert row["labels"] == [label["label"] for label in labels]
        assert row["scores"] == pytest.approx([label["score"] for label in labels], abs=1e-5)
        assert (row["label"], row["score"]) == (row["labels"][0], row["scores"][0])


def test_truncation_is_the_pipelines_when_asked_for(models: dict[Kind, Path]) -> None:
    folder = models[None, 4]
    texts = ["Wolfgang Amadeus Mozart was born in Salzburg. " * 6]
    (cut,) = annotate(
        texts, model=folder, dtype="float32", task={"type": "classify", "long_text": "truncate"}
    ).to_pylist()
    (whole,) = annotate(texts, model=folder, dtype="float32", task={"type": "classify"}).to_pylist()
    ((expected,),) = v4(text_classification, folder, texts, truncation=True)
    assert cut["label"] == expected["label"]
    assert cut["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert whole["score"] != pytest.approx(expected["score"], abs=1e-5)
