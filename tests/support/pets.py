"""A job of a few texts with a model of a few weights, run in this process by a pool that may refuse some files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs import JobSpec
from models.roberta import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast
from pipeline.events import Event, RunSummary
from pipeline.loading import ReplicaRecipe
from pipeline.run import run
from pipeline.units import Unit
from pipeline.workers import Failed, LocalPool, Message, describe
from tests.support.tokenizer_texts import write_byte_level_files


def write_model(path: Path) -> Path:
    """A classifier of cats and dogs."""
    write_byte_level_files(path)
    tokenizer = RobertaTokenizerFast.from_pretrained(path)
    tokenizer.save_pretrained(path)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=34,
        id2label={0: "cats", 1: "dogs"},
    )
    RobertaForSequenceClassification(config).save_pretrained(path)
    return path


def pets(model: Path, folder: Path, **sections: Any) -> JobSpec:
    """Three files of two rows, 0.txt to 2.txt, each a unit."""
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"cats {number}\ndogs {number}\n")
    values: dict[str, Any] = {
        "name": "pets",
        "input": {"url": str(folder / "*.txt"), "unit_bytes": 14},
        "output": {"url": str(folder / "out")},
        "model": {"path": str(model)},
        "task": {"type": "classify"},
    }
    for section, keys in sections.items():
        values[section] = values.get(section, {}) | keys
    return JobSpec.from_dict(values)


class Refusing(LocalPool):
    """Works, but fails at units with a file that `refuses`."""

    def __init__(self, recipe: ReplicaRecipe, refuses: Callable[[str], Exception | None]) -> None:
        super().__init__(recipe)
        self._refuses = refuses
        self._refused: list[Message] = []
        self.given: list[Unit] = []

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        self.given.append(unit)
        errors = [self._refuses(Path(piece.file.url).name) for piece in unit.pieces]
        error = next((error for error in errors if error is not None), None)
        if error is None:
            super().assign(worker, unit, alone=alone)
        else:
            self._refused.append(Failed(worker=worker, unit=unit.name, failure=describe(error)))

    def poll(self, timeout_s: float) -> list[Message]:
        if self._refused:
            return [self._refused.pop()]
        return super().poll(timeout_s)


def go(
    spec: JobSpec,
    *,
    refuses: Callable[[str], Exception | None] = lambda name: None,
    events: list[Event] | None = None,
    retry: bool = False,
) -> RunSummary:
    """Runs a job in this process."""
    return run(
        name=spec.name,
        source=spec.input,
        output=spec.output,
        model=spec.model,
        task=spec.task,
        workers=spec.workers,
        limits=spec.limits,
        job=spec.identity(),
        on_event=(events if events is not None else []).append,
        make_pool=lambda recipe, workers: Refusing(recipe, refuses),
        spec=spec.kept(),
        retry=retry,
    )
