"""How good the demo's models are: on the bundled corpus, which no training sees, against labels set by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jobs import annotate
from jobs.demo import DemoJob

Model = str | Path | tuple[Any, Any]  # a folder, or a model and its tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One figure, and the least that a model in this repository may have."""

    name: str
    value: float
    bar: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f} (at least {self.bar:.2f})"


def scores(job: DemoJob, model: Model) -> list[Score]:
    """How well `model` does the job on its corpus."""
    scorers: dict[str, list[Callable[[list[dict[str, Any]], Model], Score]]] = {
        "topics": [accuracy],
        "ner": [entity_f1],
        "embed": [neighbours],
        "zh_topics": [accuracy, robustness],
        "zh_ner": [partial(entity_f1, bar=0.65)],
    }
    rows = read_corpus(job.corpus)
    return [score(rows, model) for score in scorers[job.name]]


def read_corpus(path: Path) -> list[dict[str, Any]]:
    """The rows of a bundled corpus, JSON Lines or CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))


def accuracy(rows: list[dict[str, Any]], model: Model) -> Score:
    """The share of texts with the right topic; rows without a topic do not count."""
    rows = [row for row in rows if row["gold"]]
    found = annotate([row["text"] for row in rows], model=model, task={"type": "classify"})["label"].to_pylist()
    right = [label == row["gold"] for label, row in zip(found, rows, strict=True)]
    return Score(name="accuracy", value=float(np.mean(right)), bar=0.95)


def robustness(rows: list[dict[str, Any]], model: Model) -> Score:
    """The share of texts that get the same topic with characters swapped for similar ones, right or wrong."""
    found = annotate([row["text"] for row in rows], model=model, task={"type": "classify"})["label"].to_pylist()
    labels = {row["id"]: label for row, label in zip(rows, found, strict=True)}
    same = [labels[row["id"]] == labels[row["original"]] for row in rows if row["original"]]
    return Score(name="same topic when swapped", value=float(np.mean(same)), bar=0.95)


def entity_f1(rows: list[dict[str, Any]], model: Model, *, bar: float = 0.85) -> Score:
    """F1 over entities; only the exact span with the right label is right."""
    table = annotate([row["text"] for row in rows], model=model, task={"type": "ner", "aggregation": "simple"})
    found = _entities(table["entities"].to_pylist())
    wanted = _entities([row["gold"] for row in rows])
    return Score(name="entity F1", value=2 * len(found & wanted) / (len(found) + len(wanted)), bar=bar)


def _entities(rows: list[list[dict[str, Any]] | None]) -> set[tuple[int, str, int, int]]:
    return {(row, one["label"], one["start"], one["end"]) for row, all_ in enumerate(rows) for one in all_ or ()}


def neighbours(rows: list[dict[str, Any]], model: Model) -> Score:
    """The share of texts whose nearest neighbour by embedding is about the same topic."""
    rows = [row for row in rows if row["gold"]]
    topics = np.array([row["gold"] for row in rows])
    return Score(name="nearest neighbours", value=float(np.mean(topics == topics[nearest(rows, model)])), bar=0.90)


def nearest(rows: list[dict[str, Any]], model: Model) -> Any:
    """For each row the place of the other row whose text is closest to its own, [M] int64."""
    table = annotate([row["text"] for row in rows], model=model, task={"type": "embed", "normalize": True})
    vectors = np.array(table["embedding"].to_pylist())
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    return similarity.argmax(axis=1)
