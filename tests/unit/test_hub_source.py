"""Models by Hub id, from the cache alone: the tests have no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from models import load_config, load_model
from models.errors import ModelNotFound
from models.hub import Source
from models.roberta import RobertaConfig, RobertaModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model, owner/tiny, whose branch main is COMMIT."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    RobertaModel(RobertaConfig(**TINY)).save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model_loads_without_network(cache: Path, revision: str | None) -> None:
    assert load_config("owner/tiny", revision=revision).hidden_size == 8
    assert isinstance(load_model("owner/tiny", revision=revision), RobertaModel)
    assert isinstance(RobertaModel.from_pretrained("owner/tiny", revision=revision, cache_dir=str(cache)), RobertaModel)


def test_a_model_that_is_not_cached_is_explained(cache: Path) -> None:
    with pytest.raises(ModelNotFound, match="owner/other: no such folder, and the Hub could not be asked"):
        load_model("owner/other")
    with pytest.raises(ModelNotFound, match="owner/tiny: no such folder, and the Hub could not be asked"):
        load_model("owner/tiny", revision="elsewhere")


def test_a_cached_model_without_weights_is_explained(cache: Path) -> None:
    for weights in cache.rglob("model.safetensors"):
        weights.unlink()
    with pytest.raises(
        ModelNotFound, match=r"owner/tiny: expected weights, .* found no such file in the Hub repository"
    ):
        load_model("owner/tiny")


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Source(name="owner/tiny", token="secret"))
