"""Token vectors become one vector; what sentence-transformers' files say is followed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.embed import BoundEmbed, EmbedTask
from models.batch import TokenBatch
from pipeline.errors import SpecError
from tests.support.stubs import StubModel, StubTokenizer, encoding_of, stub_config

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def bind(task: EmbedTask, folder: Path | None = None) -> BoundEmbed:
    return task.bind(stub_config(), StubTokenizer(), folder)


def sentence_folder(folder: Path, modules: list[dict[str, Any]] | None = None, **modes: bool) -> Path:
    pooling = {"word_embedding_dimension": 4} | {f"pooling_mode_{mode}": on for mode, on in modes.items()}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules or MODULES))
    return folder


def vectors(bound: BoundEmbed, outputs: Any, encoding: Any = None) -> np.ndarray:
    values = np.array(outputs, np.float32)
    encoding = encoding or encoding_of([3] * len(values), range(len(values)))
    decoded = bound.decode(["text"] * (encoding.text_index[-1] + 1), encoding, (values,))
    (column,) = decoded.columns
    assert column.type == bound.fields[0].type
    assert decoded.errors == {}
    return np.array(column.to_pylist(), np.float32)


class TestForward:
    STATES = torch.arange(20, dtype=torch.float32).reshape(5, 4).flip(0)
    POOLER = torch.ones(2, 4)
    BATCH = TokenBatch.from_sequences([[1, 2], [3, 4, 5]])

    def pool(self, pooling: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        model = StubModel(last_hidden_state=self.STATES.to(dtype), pooler_output=self.POOLER.to(dtype))
        (pooled,) = bind(EmbedTask(pooling=pooling)).forward(model, self.BATCH)
        assert pooled.dtype == torch.float32
        return pooled

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_poolings(self, dtype: torch.dtype) -> None:
        first, second = self.STATES[:2], self.STATES[2:]
        assert torch.equal(self.pool("cls", dtype), torch.stack([first[0], second[0]]))
        assert torch.equal(self.pool("mean", dtype), torch.stack([first.mean(0), second.mean(0)]))
        assert torch.equal(self.pool("max", dtype), torch.stack([first.amax(0), second.amax(0)]))
        assert torch.equal(self.pool("pooler", dtype), self.POOLER)

    def test_only_the_dimensions_asked_for(self) -> None:
        model = StubModel(last_hidden_state=self.STATES, pooler_output=None)
        (pooled,) = bind(EmbedTask(pooling="cls", dimensions=3)).forward(model, self.BATCH)
        assert pooled.shape == (2, 3)

    def test_a_model_without_pooler(self) -> None:
        model = StubModel(last_hidden_state=self.STATES, pooler_output=None)
        with pytest.raises(SpecError, match=r"task\.pooling: this model has no pooler; expected one of cls, mean, max"):
            bind(EmbedTask(pooling="pooler")).forward(model, self.BATCH)


class TestDecode:
    def test_as_it_is(self) -> None:
        assert vectors(bind(EmbedTask()), [[1, 2, 3, 4], [0, 0, 0, 0]]).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]

    def test_normalised_after_truncation(self) -> None:
        bound = bind(EmbedTask(normalize=True, dimensions=2))
        assert bound.fields == [pa.field("embedding", pa.list_(pa.float32(), 2))]
        assert vectors(bound, [[3, 4], [0, 0]]) == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))

    def test_windows_of_a_long_text(self) -> None:
        outputs = [[1, 1, 1, 1], [4, 0, 0, 0], [0, 8, 0, 0], [5, 6, 7, 8]]
        encoding = encoding_of([2, 6, 2, 3], [0, 1, 1, 2])
        mean = vectors(bind(EmbedTask()), outputs, encoding)
        assert mean.tolist() == [[1, 1, 1, 1], [3, 2, 0, 0], [5, 6, 7, 8]]
        largest = vectors(bind(EmbedTask(pooling="max")), outputs, encoding)
        assert largest.tolist() == [[1, 1, 1, 1], [4, 8, 0, 0], [5, 6, 7, 8]]

    def test_float16(self) -> None:
        bound = bind(EmbedTask(dtype="float16"))
        decoded = bound.decode(["a", "b"], encoding_of([2, 2], [0, 1]), (np.array([[1, 2, 3, 4], [1e6, 0, 0, 0]]),))
        assert decoded.columns[0].type == pa.list_(pa.float16(), 4)
        assert decoded.columns[0][0].as_py() == [1, 2, 3, 4]
        assert decoded.errors == {1: "the embedding has values too large for float16"}


class TestSentenceFiles:
    @pytest.mark.parametrize("mode", ["cls", "mean", "max"])
    def test_pooling(self, tmp_path: Path, mode: str) -> None:
        names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
        folder = sentence_folder(tmp_path, **{name: name == names[mode] for name in names.values()})
        assert bind(EmbedTask(), folder).pooling == mode
        assert bind(EmbedTask(pooling="pooler"), folder).pooling == "pooler"

    def test_normalize(self, tmp_path: Path) -> None:
        normalize = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
        folder = sentence_folder(tmp_path, [*MODULES, normalize], mean_tokens=True)
        assert bind(EmbedTask(), folder).normalize
        assert not bind(EmbedTask(normalize=False), folder).normalize

    def test_max_seq_length(self, tmp_path: Path) -> None:
        (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
        assert bind(EmbedTask(), tmp_path).encoding.max_length == 24
        assert bind(EmbedTask(max_length=48), tmp_path).encoding.max_length == 48

    def test_none_of_them(self, tmp_path: Path) -> None:
        for folder in (tmp_path, None):
            bound = bind(EmbedTask(prefix="query: "), folder)
            assert (bound.pooling, bound.normalize, bound.encoding.prefix) == ("mean", False, "query: ")

    @pytest.mark.parametrize(
        ("modes", "asked"),
        [
            ({"mean_sqrt_len_tokens": True}, "pooling_mode_mean_sqrt_len_tokens"),
            ({"cls_token": True, "max_tokens": True}, "pooling_mode_cls_token with pooling_mode_max_tokens"),
            ({}, "no pooling that we know"),
        ],
    )
    def test_a_pooling_that_we_do_not_have(self, tmp_path: Path, modes: dict[str, bool], asked: str) -> None:
        folder = sentence_folder(tmp_path, **modes)
        with pytest.raises(SpecError, match=rf"task\.pooling: the model's 1_Pooling/config\.json asks for {asked};"):
            bind(EmbedTask(), folder)
        assert bind(EmbedTask(pooling="mean"), folder).pooling == "mean"

    def test_a_module_that_we_do_not_have(self, tmp_path: Path) -> None:
        dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
        folder = sentence_folder(tmp_path, [*MODULES, dense], mean_tokens=True)
        with pytest.raises(SpecError, match=r"modules\.json has Dense, which is not supported; name a pooling"):
            bind(EmbedTask(), folder)

    def test_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "modules.json").write_text("[{")
        with pytest.raises(SpecError, match=r"modules\.json is not readable JSON"):
            bind(EmbedTask(), tmp_path)


def test_too_many_dimensions() -> None:
    with pytest.raises(SpecError, match=r"task\.dimensions: the model's vectors have 4 values, found 5"):
        bind(EmbedTask(dimensions=5))


def test_travels_to_workers() -> None:
    bound = bind(EmbedTask())
    assert pickle.loads(pickle.dumps(bound)) == bound
