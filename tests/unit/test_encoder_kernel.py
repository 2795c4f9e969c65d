"""The compiled stack of blocks against the modules that it stands for, and what happens where it cannot be compiled."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from models import kernels
from models.batch import TokenBatch
from models.inference import optimize_for_inference
from models.kernels import EncoderKernel, encoder_kernel
from models.layers.block import Block, BlockStack
from models.layers.layout import PackedLayout, PaddedLayout
from models.layers.tiled_stack import TiledStack, can_tile
from models.roberta import RobertaConfig, RobertaModel

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 257, 600, 3]


@pytest.fixture(scope="module")
def kernel() -> EncoderKernel:
    kernel = encoder_kernel()
    if kernel is None:
        pytest.skip("this machine has no AMX, or no compiler")
    return kernel


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder_kernel.cache_clear()
    yield tmp_path
    encoder_kernel.cache_clear()


def random_stack(num_heads: int, head_size: int, intermediate_size: int, *, num_layers: int = 2) -> BlockStack:
    """In bfloat16, with weights large enough that attention and the activation matter, and biases that are not zero."""
    config = RobertaConfig(
        hidden_size=num_heads * head_size,
        num_attention_heads=num_heads,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
    )
    torch.manual_seed(0)
    stack = BlockStack(config).eval()
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.2)
    return stack.to(torch.bfloat16)


def random_states(num_tokens: int, hidden_size: int) -> torch.Tensor:
    return torch.randn(num_tokens, hidden_size, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


def layout_of(lengths: list[int], *, causal: bool = False) -> PackedLayout:
    return PackedLayout.of(TokenBatch.from_flat(torch.zeros(sum(lengths)), lengths), causal=causal)


def tiled(stack: BlockStack, kernel: EncoderKernel) -> TiledStack:
    assert can_tile(stack)
    return TiledStack(copy.deepcopy(stack), kernel)


@torch.inference_mode()
def last(stack: nn.Module, states: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    found: torch.Tensor = stack(states, layout).last_hidden_state.float()
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("num_heads", "head_size", "intermediate_size"), [(12, 64, 3072), (3, 32, 416), (2, 96, 32), (1, 256, 384)]
)
def test_no_less_accurate_than_torch(
    kernel: EncoderKernel, num_heads: int, head_size: int, intermediate_size: int, causal: bool
) -> None:
    stack = random_stack(num_heads, head_size, intermediate_size)
    states, layout = random_states(sum(LENGTHS), num_heads * head_size), layout_of(LENGTHS, causal=causal)
    exact = last(copy.deepcopy(stack).float(), states.float(), layout)
    torchs = last(stack, states, layout)
    found = last(tiled(stack, kernel), states, layout)
    assert functional.mse_loss(found, exact) <= functional.mse_loss(torchs, exact)
    assert (found - exact).abs().max() <= 2.0 * (torchs - exact).abs().max()


@pytest.mark.parametrize("scale", [0.0, 30.0, 1000.0])
def test_scores_may_be_equal_or_far_apart(kernel: EncoderKernel, scale: float) -> None:
    stack = random_stack(2, 64, 256, num_layers=1)
    query = stack.layer[0].get_submodule("attention.self.query")
    assert isinstance(query, nn.Linear)
    with torch.no_grad():
        query.weight.mul_(scale)
    states, layout = random_states(40, 128), layout_of([40])
    exact = last(copy.deepcopy(stack).float(), states.float(), layout)
    found = last(tiled(stack, kernel), states, layout)
    # Where one score rules, a rounding may decide which it is; most rows have no such tie.
    assert (functional.cosine_similarity(found, exact) >= 0.999).float().mean() >= 0.9
    assert found.isfinite().all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sequence_alone_equals_the_sequence_among_others(kernel: EncoderKernel, threads: int) -> None:
    stack = tiled(random_stack(2, 64, 256), kernel)
    states = random_states(sum(LENGTHS), 128)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = last(stack, states, layout_of(LENGTHS)).split(LENGTHS)
    finally:
        torch.set_num_threads(before)
    for alone, expected in zip(states.split(LENGTHS), together, strict=True):
        assert torch.equal(last(stack, alone, layout_of([len(alone)])), expected)


def test_what_is_not_finite_stays_in_its_sequence(kernel: EncoderKernel) -> None:
    states = random_states(30, 64)
    states[12, 3] = torch.nan
    found = last(tiled(random_stack(2, 32, 128), kernel), states, layout_of([10, 10, 10]))
    assert found[10:20].isnan().all()
    assert found[:10].isfinite().all()
    assert found[20:].isfinite().all()


@pytest.mark.parametrize("lengths", [LENGTHS, [7], [5] * 70, [3] * 1100], ids=["mixed", "one", "some", "many"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_first_tokens_alone_are_those_among_all(
    kernel: EncoderKernel, lengths: list[int], num_layers: int, causal: bool
) -> None:
    stack = tiled(random_stack(2, 64, 256, num_layers=num_layers), kernel)
    states, layout = random_states(sum(lengths), 128), layout_of(lengths, causal=causal)
    with torch.inference_mode():
        found = stack(states, layout, first_tokens=True).last_hidden_state.float()
    assert torch.equal(found, last(stack, states, layout)[layout.cu_seqlens[:-1].long()])


def test_products_of_torch_are_unharmed(kernel: EncoderKernel) -> None:
    """Its kernels and ours use the same registers in turn."""
    stack = tiled(random_stack(2, 32, 128), kernel)
    left, right = random_states(256, 256), random_states(256, 256)
    expected = left @ right
    for _ in range(3):
        last(stack, random_states(64, 64), layout_of([64]))
        assert torch.equal(left @ right, expected)


def test_what_it_lacks_is_refused_by_name(kernel: EncoderKernel) -> None:
    stack, states = tiled(random_stack(2, 32, 128), kernel), random_states(8, 64)
    with pytest.raises(ValueError, match="prepared for inference takes no output_attentions"):
        stack(states, layout_of([8]), output_attentions=True)
    with pytest.raises(ValueError, match="call forward_packed"):
        stack(states[None], PaddedLayout())
    with pytest.raises(ValueError, match="has no gradients"):
        stack(states.requires_grad_(), layout_of([8]))


def test_a_decoder_says_that_it_takes_packed_batches(kernel: EncoderKernel) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128, "num_hidden_layers": 1}
    model = RobertaModel(RobertaConfig(**sizes, vocab_size=32, is_decoder=True)).eval().to(torch.bfloat16)
    optimize_for_inference(model)
    with pytest.raises(ValueError, match="call forward_packed"), torch.inference_mode():
        model(torch.tensor([[5, 6]]))


def test_what_it_would_read_beyond_is_refused(kernel: EncoderKernel) -> None:
    stack, states = tiled(random_stack(2, 32, 128), kernel), random_states(8, 64)
    for lengths in ([9], [7], [4, 3]):
        with pytest.raises(ValueError, match="from 0 to 8"):
            last(stack, states, layout_of(lengths))
    with pytest.raises(ValueError, match=r"found torch.float32"):
        last(stack, states.float(), layout_of([8]))
    stack.weights = [weights[:-1] for weights in stack.weights]
    with pytest.raises(ValueError, match="expected 12 tensors of a layer, found 11"):
        last(stack, states, layout_of([8]))


def test_no_tokens(kernel: EncoderKernel) -> None:
    stack = tiled(random_stack(2, 32, 128), kernel)
    assert len(last(stack, random_states(0, 64), layout_of([0]))) == 0


def test_a_stack_of_several_dtypes_is_left_to_torch() -> None:
    stack = random_stack(2, 32, 128)
    stack.layer[1].get_submodule("attention.self.query").float()
    assert not can_tile(stack)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "relu"},
        {"hidden_size": 48},
        {"intermediate_size": 100},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True, "add_cross_attention": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_stacks_are_left_to_torch(changes: dict[str, Any]) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128, "num_hidden_layers": 1}
    stack = BlockStack(RobertaConfig(**(sizes | changes))).to(torch.bfloat16)
    assert isinstance(stack.layer[0], Block)
    assert not can_tile(stack)
    assert not can_tile(random_stack(2, 32, 128).float())


def test_compiled_once_and_kept(kernel: EncoderKernel, fresh: Path) -> None:
    assert encoder_kernel() is not None
    (library,) = fresh.rglob("*.so")
    made = library.stat().st_mtime_ns
    encoder_kernel.cache_clear()
    assert encoder_kernel() is not None
    assert library.stat().st_mtime_ns == made


@pytest.mark.parametrize("compilers", [(), ("false",)], ids=["none", "failing"])
def test_without_a_compiler_torch_does_it(
    kernel: EncoderKernel,
    fresh: Path,
    compilers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(kernels, "_COMPILERS", compilers)
    with caplog.at_level(logging.WARNING):
        assert encoder_kernel() is None
    assert "the model runs in torch" in caplog.text
    assert not list(fresh.rglob("*.so"))
