"""The blocks that a GPU has: joined layers, and what torch compiles of them.

On a CPU the compiler's front and the mathematics are the same; the code that it makes for a GPU is seen on one alone.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from models.batch import TokenBatch
from models.encoder import EncoderModel
from models.inference import compile_blocks, optimize_for_inference
from models.layers.fused_block import FusedBlock, JoinedLinear
from tests.support.small_models import (
    LEAST_COSINE,
    LENGTHS,
    TOLERANCE,
    each_model,
    random_batch,
    random_model,
    states,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what the compiler itself imports
    pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex"),  # a CPU's rotation
]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def joined(model: EncoderModel) -> EncoderModel:
    fast = copy.deepcopy(model)
    fast.encoder.layer = torch.nn.ModuleList(FusedBlock(block, JoinedLinear) for block in fast.encoder.layer)
    return fast


@each_model
def test_joined_layers_give_the_same_states(name: str) -> None:
    model, batch = random_model(name), random_batch()
    torch.testing.assert_close(states(joined(model), batch), states(model, batch), atol=TOLERANCE, rtol=0.0)


@pytest.mark.parametrize("name", ["roberta", "roberta-gelu_new", "roformer"])
def test_compiled_once_for_all_blocks_and_sizes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, batch = random_model(name), random_batch()
    fast = joined(model)
    torch._dynamo.utils.counters.clear()
    with caplog.at_level(logging.INFO, logger="models.inference"):
        compile_blocks(fast, batch)
    assert "compiled the model's blocks in" in caplog.text
    for ids in (batch.input_ids, *batch.input_ids.split(LENGTHS)[:3]):
        some = TokenBatch.from_flat(ids, LENGTHS if len(ids) == sum(LENGTHS) else [len(ids)])
        torch.testing.assert_close(states(fast, some), states(model, some), atol=TOLERANCE, rtol=0.0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_without_a_compiler_it_goes_on_as_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    model, batch = random_model("roberta"), random_batch()
    fast = joined(model)
    compile_blocks(fast, batch)
    assert "cannot be compiled and go on without" in caplog.text
    torch.testing.assert_close(states(fast, batch), states(model, batch), atol=TOLERANCE, rtol=0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_model
def test_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    model, batch = random_model(name), random_batch()
    expected = states(model, batch)
    there = TokenBatch.from_flat(batch.input_ids, LENGTHS, device="cuda")
    fast = copy.deepcopy(model).to("cuda", dtype)
    optimize_for_inference(fast)
    assert all(isinstance(block, FusedBlock) for block in fast.encoder.layer)
    for compiled in (False, True):
        if compiled:
            compile_blocks(fast, there)
        assert functional.cosine_similarity(states(fast, there).cpu(), expected).min() >= LEAST_COSINE
