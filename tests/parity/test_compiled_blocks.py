"""The blocks that a GPU has, on this machine's CPU: joined layers, and what torch compiles of them.

The compiler's front and the mathematics are the same; the code that it makes for a GPU is not seen here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator

import pytest
import torch

from models.batch import TokenBatch
from models.encoder import EncoderModel
from models.inference import compile_blocks
from models.layers.fused_block import FusedBlock, JoinedLinear
from tests.parity.test_fast_paths import LENGTHS, TOLERANCE, each_model, random_batch, random_model, states

# Of what the compiler itself imports.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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
    with caplog.at_level(logging.INFO):
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
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    model, batch = random_model("roberta"), random_batch()
    fast = joined(model)
    compile_blocks(fast, batch)
    assert "cannot be compiled and go on without" in caplog.text
    torch.testing.assert_close(states(fast, batch), states(model, batch), atol=TOLERANCE, rtol=0.0)
