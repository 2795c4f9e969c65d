"""`embed` gives what is computed by hand from the hidden states that transformers gives for the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs import annotate
from tests.support.hf_pipelines import build_byte_level_tokenizer, build_model, hidden_states
from tests.support.reference import v4

TEXTS = ["Ada met Charles.", "no", "Łódź 🚀 café", "東京", "Wolfgang Amadeus Mozart was born in Salzburg"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    v4(build_model, folder, "RobertaModel")
    v4(build_byte_level_tokenizer, folder)
    return folder


def embed(texts: list[str], model: Path, **options: Any) -> npt.NDArray[np.float64]:
    table = annotate(texts, model=model, dtype="float32", task={"type": "embed", **options})
    assert table["error"].null_count == len(texts)
    return np.array(table["embedding"].to_pylist())


def normalised(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_poolings(model: Path) -> None:
    states = v4(hidden_states, model, TEXTS)
    for pooling, expected in {
        "cls": [state[0] for state, _ in states],
        "mean": [state.mean(0) for state, _ in states],
        "max": [state.max(0) for state, _ in states],
        "pooler": [pooled for _, pooled in states],
    }.items():
        vectors = np.stack(expected)
        assert embed(TEXTS, model, pooling=pooling) == pytest.approx(vectors, abs=1e-5)
        shorter = embed(TEXTS, model, pooling=pooling, dimensions=5, normalize=True, dtype="float16")
        assert shorter == pytest.approx(normalised(vectors[:, :5]), abs=1e-3)


def test_prefix_is_part_of_the_text(model: Path) -> None:
    states = v4(hidden_states, model, [f"query: {text}" for text in TEXTS])
    assert embed(TEXTS, model, prefix="query: ") == pytest.approx(np.stack([s.mean(0) for s, _ in states]), abs=1e-5)


def test_sentence_transformers_folder(model: Path) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    folder = model.parent / "sentence"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    states = v4(hidden_states, model, TEXTS)
    assert embed(TEXTS, folder) == pytest.approx(normalised(np.stack([s[0] for s, _ in states])), abs=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_a_long_text_goes_through_in_windows(model: Path, pooling: str) -> None:
    long = "Wolfgang Amadeus Mozart was born in Salzburg; " * 5
    windows = [state for state, _ in v4(hidden_states, model, [long], max_length=48)]
    assert len(windows) > 2
    tokens = [len(window) for window in windows]
    expected = {
        "cls": np.average([window[0] for window in windows], axis=0, weights=tokens),
        "mean": np.concatenate(windows).mean(0),
        "max": np.concatenate(windows).max(0),
    }[pooling]
    before, vector, _ = embed(["no", long, "no"], model, pooling=pooling)
    assert vector == pytest.approx(expected, abs=1e-5)
    # Not a bit changes in a text that happens to have a long neighbour.
    assert before.tolist() == embed(["no"], model, pooling=pooling)[0].tolist()


def test_truncation(model: Path) -> None:
    long = "Wolfgang Amadeus Mozart was born in Salzburg; " * 5
    first, *_ = v4(hidden_states, model, [long], max_length=48)
    (vector,) = embed([long], model, long_text="truncate")
    assert vector == pytest.approx(first[0].mean(0), abs=1e-5)
