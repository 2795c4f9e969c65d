"""The demo: small jobs with their own text and models, so that everything can be tried offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """One bundled job. The paths are absolute; the spec names the same files from the root of a clone."""

    name: str  # also the name of what comes out; of Chinese text with zh_ before it
    spec: Path  # the job file, to be read as an example
    corpus: Path  # the bundled text
    model: Path  # a folder in Hugging Face's layout


def jobs() -> list[DemoJob]:
    """The bundled jobs, in the order in which the demo runs them."""
    return [
        DemoJob(
            name=name,
            spec=FOLDER / f"{name}.yaml",
            corpus=FOLDER / "corpus" / corpus,
            model=FOLDER / "models" / name,
        )
        for name, corpus in (
            ("topics", "topics.jsonl"),
            ("ner", "ner.jsonl"),
            ("embed", "embed.csv"),
            ("zh_topics", "zh_topics.jsonl"),
            ("zh_ner", "zh_news.jsonl"),
        )
    ]
