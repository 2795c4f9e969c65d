"""A random RoBERTa for each kind of job, small enough to be loaded in no time."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.hf_pipelines import NER_LABELS, build_byte_level_tokenizer, build_model
from tests.support.reference import v4

TOPICS = {0: "sport", 1: "music", 2: "science", 3: "travel"}
MAX_TOKENS = 48  # of a sequence; longer texts take several windows
HIDDEN_SIZE = 16


def tiny_models(folder: Path) -> dict[str, Path]:
    """Makes the models under `folder`; gives a folder for each kind of job."""
    folders = {kind: folder / kind for kind in ("classify", "embed", "ner")}
    v4(build_model, folders["classify"], "RobertaForSequenceClassification", id2label=TOPICS)
    v4(build_model, folders["embed"], "RobertaModel")
    v4(build_model, folders["ner"], "RobertaForTokenClassification", id2label=dict(enumerate(NER_LABELS)))
    v4(build_byte_level_tokenizer, folders["ner"], max_length=MAX_TOKENS)
    for kind in ("classify", "embed"):
        shutil.copytree(folders["ner"], folders[kind], ignore=lambda _, names: _of_the_model(names), dirs_exist_ok=True)
    return folders


def _of_the_model(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(("config", "model"))]
