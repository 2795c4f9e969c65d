"""How far what trained models say in bfloat16 agrees with what they say in float32.

    python tests/bench/agreement.py

The bundled models on the texts of their demo jobs: how many texts get the same label, how many the same entities
(label, start and end of each), and the least cosine of a text's two vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.json

from jobs import JobSpec, annotate, demo


def main() -> None:
    print("| job | texts | agree |\n|---|---:|---:|")
    for job in demo.jobs():
        spec = JobSpec.from_yaml(job.spec)
        texts = texts_of(job.corpus)
        exact = annotate(texts, model=job.model, task=spec.task, dtype="float32").to_pylist()
        found = annotate(texts, model=job.model, task=spec.task, dtype="bfloat16").to_pylist()
        print(f"| {job.name} | {len(texts)} | {agreement(spec.task.type, exact, found)} |", flush=True)


def texts_of(path: Path) -> list[str]:
    table = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.json.read_json(path)
    texts: list[str] = table["text"].to_pylist()
    return texts


def agreement(task: str, exact: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    pairs = list(zip(exact, found, strict=True))
    if task == "embed":
        cosines = [np.dot(a["embedding"], b["embedding"]) for a, b in pairs if a["embedding"] is not None]
        return f"cosine ≥ {min(cosines):.6f}"
    if task == "ner":
        same = [spans(a) == spans(b) for a, b in pairs]
        return f"{sum(same)} ({np.mean(same):.2%}), {sum(len(spans(a)) for a, _ in pairs)} entities"
    same = [a["label"] == b["label"] for a, b in pairs]
    return f"{sum(same)} ({np.mean(same):.2%})"


def spans(row: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(entity["label"], entity["start"], entity["end"]) for entity in row["entities"] or []]


if __name__ == "__main__":
    main()
