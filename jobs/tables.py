"""Results as tables on screen: texts on the left, what the model says of them on the right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from jobs.wording import one_line

MAX_TEXT_CHARS = 140
MAX_LABELS = 3
MAX_ENTITIES = 8
MAX_NUMBERS = 4  # of an embedding

# Colours that can be told apart on dark and on light terminals; a label keeps its colour within a table.
LABEL_STYLES = ("bold cyan", "bold magenta", "bold green", "bold yellow", "bold blue", "bold red")

Row = Mapping[str, Any]


def results_table(results: pa.Table, *, text: str, title: str = "") -> Table:
    """A table with one line a row: kept columns, the text shortened, the results.

    Args:
        results: a job's output columns, kept columns and the text column `text`.
        text: name of the text column; left out where `results` does not have it.
        title: printed above.
    """
    names = results.column_names
    outcome, formats = _outcome(names)
    taken = {text, "error", *outcome}
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", expand=False)
    kept = [name for name in names if name not in taken]
    for name in kept:
        table.add_column(name, style="dim", overflow="ellipsis", max_width=16, no_wrap=True)
    if text in names:
        table.add_column(text, ratio=3, max_width=70)
    styles = LabelStyles()
    for name in formats:
        table.add_column(name, ratio=2)
    for row in results.to_pylist():
        cells = [Text(one_line(str(row[name]), 40)) for name in kept]
        if text in names:
            cells.append(_text_cell(row, text, styles))
        if row.get("error"):
            message = Text(one_line(str(row["error"]), MAX_TEXT_CHARS), style="yellow")
            cells += [message, *[Text("–", style="dim")] * (len(formats) - 1)]
        else:
            cells += [make(row, styles) for make in formats.values()]
        table.add_row(*cells)
    return table


class LabelStyles:
    """Gives each label a colour, in the order in which labels are met."""

    def __init__(self) -> None:
        self._styles: dict[str, str] = {}

    def __call__(self, label: str) -> str:
        return self._styles.setdefault(label, LABEL_STYLES[len(self._styles) % len(LABEL_STYLES)])


Cell = Callable[[Row, LabelStyles], Text]


def _outcome(names: Sequence[str]) -> tuple[set[str], dict[str, Cell]]:
    """Which of the columns hold results, and how each is shown; by the column names that DESIGN gives the jobs."""
    if "entities" in names:
        return {"entities"}, {"entities": _entities_cell}
    if "embedding" in names:
        return {"embedding"}, {"embedding": _embedding_cell}
    if "labels" in names:
        return {"label", "score", "labels", "scores"}, {"labels": _labels_cell}
    cells: dict[str, Cell] = {"label": _label_cell, "score": _score_cell}
    cells = {name: cell for name, cell in cells.items() if name in names}
    return set(cells), cells


def _text_cell(row: Row, column: str, styles: LabelStyles) -> Text:
    value = row[column]
    if value is None:
        return Text("null", style="dim italic")
    if not value.strip():
        return Text("empty", style="dim italic")
    # Character for character, so that the entities' offsets stay right.
    shown = Text("".join(char if char.isprintable() else " " for char in value[:MAX_TEXT_CHARS]))
    for entity in row.get("entities") or ():
        shown.stylize(styles(str(entity["label"])), entity["start"], entity["end"])
    if len(value) > MAX_TEXT_CHARS:
        shown.append("…", style="dim")
    return shown


def _entities_cell(row: Row, styles: LabelStyles) -> Text:
    entities = row["entities"] or []
    shown = Text()
    for entity in entities[:MAX_ENTITIES]:
        if shown:
            shown.append(", ")
        shown.append(one_line(entity["text"], 40))
        shown.append("→", style="dim")
        shown.append(str(entity["label"]), style=styles(str(entity["label"])))
    if len(entities) > MAX_ENTITIES:
        shown.append(f", and {len(entities) - MAX_ENTITIES} more", style="dim")
    return shown if shown else Text("none", style="dim")


def _label_cell(row: Row, styles: LabelStyles) -> Text:
    label = row["label"]
    return Text("–", style="dim") if label is None else Text(str(label), style=styles(str(label)))


def _score_cell(row: Row, styles: LabelStyles) -> Text:
    score = row["score"]
    if isinstance(score, dict):  # a regression with several outputs
        return Text(", ".join(f"{name} {number:.3f}" for name, number in score.items()))
    return Text("–" if score is None else f"{score:.3f}")


def _labels_cell(row: Row, styles: LabelStyles) -> Text:
    labels = row["labels"] or []
    scores = row.get("scores") or [None] * len(labels)
    shown = Text()
    for label, score in list(zip(labels, scores, strict=False))[:MAX_LABELS]:
        if shown:
            shown.append(", ")
        shown.append(str(label), style=styles(str(label)))
        if score is not None:
            shown.append(f" {score:.3f}")
    if len(labels) > MAX_LABELS:
        shown.append(f", and {len(labels) - MAX_LABELS} more", style="dim")
    return shown if shown else Text("none", style="dim")


def _embedding_cell(row: Row, styles: LabelStyles) -> Text:
    embedding = row["embedding"]
    if embedding is None:
        return Text("–", style="dim")
    numbers = ", ".join(f"{number:+.2f}" for number in embedding[:MAX_NUMBERS])
    return Text.assemble(f"[{numbers}, …]", (f" {len(embedding)} numbers", "dim"))
