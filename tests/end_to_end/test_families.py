"""Every family through every kind of job: what `annotate` gives is what the padded model gives, text by text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import annotate
from models import load_model, load_tokenizer
from models.bert import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertTokenizerFast,
)
from models.rocbert import (
    RoCBertConfig,
    RoCBertForSequenceClassification,
    RoCBertForTokenClassification,
    RoCBertModel,
    RoCBertTokenizer,
)
from models.roformer import (
    RoFormerConfig,
    RoFormerForSequenceClassification,
    RoFormerForTokenClassification,
    RoFormerModel,
    RoFormerTokenizerFast,
)

TEXTS = [
    "今天天气非常好。",
    "李明在北京的阿里巴巴工作，他喜欢 coffee 和 AI。",
    "Ｆｕｌｌ－width 字符，𠮷野家，naïve café",
    "短",
    "his dog lives in paris 🙂",
    "天气" * 11,  # as long as the model takes
]
LONG = "北京的天气非常好，" * 12
WORDS = "天气 非常 北京 工作 喜欢 今天 coffee ai his dog lives in paris na ##ive cafe full width"
CHARACTERS = sorted({character for text in [*TEXTS, LONG] for character in text if character > "\u2e80"})
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *CHARACTERS]
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "initializer_range": 0.4,
}
ROCBERT_SIZES = {
    "shape_vocab_size": len(VOCABULARY),
    "shape_embed_dim": 6,
    "pronunciation_vocab_size": len(VOCABULARY),
    "pronunciation_embed_dim": 4,
}
NER_LABELS = {"id2label": {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}}
TOPICS = {"id2label": {0: "weather", 1: "work", 2: "food"}}


def write_vocabulary(folder: Path) -> dict[str, str]:
    """The three files that RoCBert has; the others need the first alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    shapes = {token: number for number, token in enumerate(reversed(VOCABULARY))}
    pronunciations = {token: number // 2 for number, token in enumerate(VOCABULARY)}
    for name, table in (("word_shape", shapes), ("word_pronunciation", pronunciations)):
        (folder / f"{name}.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.txt")}


def rocbert_tokenizer(folder: Path) -> RoCBertTokenizer:
    return RoCBertTokenizer(
        **write_vocabulary(folder),
        word_shape_file=str(folder / "word_shape.json"),
        word_pronunciation_file=str(folder / "word_pronunciation.json"),
    )


@dataclass(frozen=True, kw_only=True)
class Family:
    config: Callable[..., Any]
    tokenizer: Callable[[Path], Any]
    models: dict[str, Any]


FAMILIES = {
    "bert": Family(
        config=lambda **fields: BertConfig(**SIZES, **fields),
        tokenizer=lambda folder: BertTokenizerFast(**write_vocabulary(folder)),
        models={
            "classify": BertForSequenceClassification,
            "embed": BertModel,
            "ner": BertForTokenClassification,
        },
    ),
    "roformer": Family(
        config=lambda **fields: RoFormerConfig(**SIZES, **fields),
        tokenizer=lambda folder: RoFormerTokenizerFast(**write_vocabulary(folder)),
        models={
            "classify": RoFormerForSequenceClassification,
            "embed": RoFormerModel,
            "ner": RoFormerForTokenClassification,
        },
    ),
    "rocbert": Family(
        config=lambda **fields: RoCBertConfig(**SIZES, **ROCBERT_SIZES, **fields),
        tokenizer=rocbert_tokenizer,
        models={
            "classify": RoCBertForSequenceClassification,
            "embed": RoCBertModel,
            "ner": RoCBertForTokenClassification,
        },
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind of job, with a random model of the family."""
    chosen = FAMILIES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    folders = {}
    for kind, fields in (("classify", TOPICS), ("embed", {}), ("ner", NER_LABELS)):
        folders[kind] = root / kind
        tokenizer = chosen.tokenizer(root / "vocabulary")
        tokenizer.save_pretrained(folders[kind])
        torch.manual_seed(7)
        chosen.models[kind](chosen.config(**fields)).save_pretrained(folders[kind])
    return folders


HEADS = {"classify": "sequence-classification", "embed": "encoder", "ner": "token-classification"}


def padded(folder: Path, kind: str, text: str) -> Any:
    """The model's own answer to one text, by the familiar surface."""
    model, tokenizer = load_model(folder, task=HEADS[kind]), load_tokenizer(folder)
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt"))


def test_classify(family: dict[str, Path]) -> None:
    table = annotate(TEXTS, model=family["classify"], task={"type": "classify", "top_k": "all"})
    assert table["error"].null_count == len(TEXTS)
    for text, labels, scores in zip(TEXTS, table["labels"].to_pylist(), table["scores"].to_pylist(), strict=True):
        expected = padded(family["classify"], "classify", text).logits.softmax(-1)[0].tolist()
        assert dict(zip(labels, scores, strict=True)) == pytest.approx(
            dict(zip(TOPICS["id2label"].values(), expected, strict=True)), abs=1e-5
        )
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_embed(family: dict[str, Path], pooling: str) -> None:
    table = annotate(TEXTS, model=family["embed"], task={"type": "embed", "pooling": pooling, "normalize": False})
    for text, vector in zip(TEXTS, table["embedding"].to_pylist(), strict=True):
        states = padded(family["embed"], "embed", text).last_hidden_state[0]
        expected = {"mean": states.mean(0), "cls": states[0], "max": states.max(0).values}[pooling]
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_ner(family: dict[str, Path]) -> None:
    """Without aggregation an entity is a token: its label and score are the model's, its place is right in the text."""
    task = {"type": "ner", "aggregation": "none", "ignore_labels": []}
    table = annotate(TEXTS, model=family["ner"], task=task)
    for text, entities in zip(TEXTS, table["entities"].to_pylist(), strict=True):
        scores = padded(family["ner"], "ner", text).logits[0].softmax(-1)[1:-1]
        best = scores.max(-1)
        assert [entity["label"] for entity in entities] == [
            NER_LABELS["id2label"][number] for number in best.indices.tolist()
        ]
        np.testing.assert_allclose([entity["score"] for entity in entities], best.values, atol=1e-5)
        assert [text[entity["start"] : entity["end"]] for entity in entities] == [entity["text"] for entity in entities]
        covered = "".join(entity["text"] for entity in entities)
        assert covered == "".join(text.split())


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_entities_of_a_long_text_lie_where_they_say(family: dict[str, Path], aggregation: str) -> None:
    (entities,) = annotate([LONG], model=family["ner"], task={"type": "ner", "aggregation": aggregation})[
        "entities"
    ].to_pylist()
    assert entities
    assert all(LONG[entity["start"] : entity["end"]] == entity["text"] for entity in entities)
    assert max(entity["end"] for entity in entities) > len(LONG) // 2
    starts = [entity["start"] for entity in entities]
    assert starts == sorted(starts)


def test_long_texts_are_used_whole(family: dict[str, Path]) -> None:
    """The end of a text that is longer than the model changes its result."""
    other_end = LONG[:-20] + "短" * 20
    for kind, column in (("classify", "score"), ("embed", "embedding")):
        first, second = annotate([LONG, other_end], model=family[kind], task={"type": kind})[column].to_pylist()
        assert first != second
        cut = {"type": kind, "long_text": "truncate"}
        first, second = annotate([LONG, other_end], model=family[kind], task=cut)[column].to_pylist()
        assert first == pytest.approx(second, abs=1e-6)
