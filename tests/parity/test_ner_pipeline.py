"""`ner` finds what transformers' token classification pipeline finds with the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import annotate
from tests.support.hf_pipelines import (
    NER_LABELS,
    build_byte_level_tokenizer,
    build_model,
    build_wordpiece_tokenizer,
    token_classification,
)
from tests.support.reference import v4

SHORT = [
    "Ada Lovelace met Charles Babbage in London.",
    "they said: don't (ever) stop, it's 3,000 km",
    "  two  blanks \n a line\tand a tab ",
    "Naïve cafés in Łódź, Über alles; Z\u0308",
    "😀 rockets 🚀🚀 and a family 👨\u200d👩\u200d👧",
    "東京は 日本",
    "Москва القاهرة",
    "</s> special <mask> strings <s> in <pad>it<unk>",
    "x",
    "...",
    "zero\u200bwidth no\u00a0break",
]
LONG = [
    "Wolfgang Amadeus Mozart was born in Salzburg; his father Leopold taught him the violin and the piano. " * 3,
    "no-blanks-at-all," * 12,
    "🚀 Sao Paulo, Łódź </s> London " * 7,
    "short after all",
]


@pytest.fixture(scope="module", params=["byte-level", "wordpiece"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ner")
    id2label = dict(enumerate(NER_LABELS))
    v4(build_model, folder, "RobertaForTokenClassification", id2label=id2label, seed=3)
    if request.param == "byte-level":
        v4(build_byte_level_tokenizer, folder)
    else:
        v4(build_wordpiece_tokenizer, folder)
        config = json.loads((folder / "config.json").read_text())
        # The family of which any tokenizer is read as its tokenizer.json says.
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "xlm-roberta"}))
    return folder


def assert_same(
    model: Path, texts: list[str], ours: dict[str, Any], theirs: dict[str, Any], *, repeats: bool = False
) -> None:
    table = annotate(texts, model=model, dtype="float32", task={"type": "ner", **ours})
    assert table["error"].null_count == len(texts)
    expected = v4(token_classification, model, texts, **theirs)
    num_entities = 0
    for text, found, wanted in zip(texts, table["entities"].to_pylist(), expected, strict=True):
        if repeats and len(wanted) > 1 and wanted[0] == wanted[1]:
            del wanted[0]  # the pipeline says an empty first entity twice
        key = "entity" if theirs["aggregation_strategy"] == "none" else "entity_group"
        assert [(e["label"], e["start"], e["end"]) for e in found] == [(e[key], e["start"], e["end"]) for e in wanted]
        assert [e["score"] for e in found] == pytest.approx([e["score"] for e in wanted], abs=1e-5)
        assert [e["text"] for e in found] == [text[int(e["start"]) : int(e["end"])] for e in wanted]
        num_entities += len(found)
    assert num_entities > len(texts)  # or the comparison says little


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_aggregation(model: Path, aggregation: str) -> None:
    assert_same(model, SHORT, {"aggregation": aggregation}, {"aggregation_strategy": aggregation})


def test_ignored_labels(model: Path) -> None:
    ours = {"aggregation": "simple", "ignore_labels": ["PER"]}
    assert_same(model, SHORT, ours, {"aggregation_strategy": "simple", "ignore_labels": ["PER"]})


@pytest.mark.parametrize("stride", [0, 5, 20])
@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_long_texts(model: Path, aggregation: str, stride: int) -> None:
    ours = {"aggregation": aggregation, "stride": stride}
    assert_same(model, LONG, ours, {"aggregation_strategy": aggregation, "stride": stride}, repeats=True)
