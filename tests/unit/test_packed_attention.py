"""The compiled attention kernel against torch's, and what happens where it cannot be compiled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models import kernels
from models.kernels import PackedAttention, packed_attention
from models.layers.rotary import Rotation

TOLERANCE = 2e-2  # two roundings to bfloat16 of values below four


@pytest.fixture(scope="module")
def kernel() -> PackedAttention:
    kernel = packed_attention()
    if kernel is None:
        pytest.skip("this machine has no AMX, or no compiler")
    return kernel


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed_attention.cache_clear()
    yield tmp_path
    packed_attention.cache_clear()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.bfloat16)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("num_heads", "head_size"), [(12, 64), (3, 32), (2, 96), (1, 128)])
def test_equals_torch(kernel: PackedAttention, num_heads: int, head_size: int, causal: bool) -> None:
    lengths = [1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 257, 600, 3]
    ends = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    states = random(sum(lengths), 3, num_heads, head_size)
    found = kernel.attend(states, torch.tensor(ends, dtype=torch.int32), causal=causal).float()
    for start, stop in pairwise(ends):
        query, key, value = states[start:stop].float().permute(1, 2, 0, 3)[:, None]
        expected = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        torch.testing.assert_close(found[start:stop], expected[0].transpose(0, 1), atol=TOLERANCE, rtol=0.0)


@pytest.mark.parametrize("scale", [0.0, 30.0, 1000.0])
def test_scores_may_be_equal_or_far_apart(kernel: PackedAttention, scale: float) -> None:
    states = random(40, 3, 2, 64)
    states[:, 0] *= scale
    found = kernel.attend(states, torch.tensor([0, 40], dtype=torch.int32), causal=False).float()
    query, key, value = states.float().permute(1, 2, 0, 3)[:, None]
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(found, expected[0].transpose(0, 1), atol=TOLERANCE, rtol=0.0)


def test_what_is_not_finite_stays_in_its_sequence(kernel: PackedAttention) -> None:
    states = random(30, 3, 1, 32)
    states[12, 1, 0, 3] = torch.nan
    found = kernel.attend(states, torch.tensor([0, 10, 20, 30], dtype=torch.int32), causal=False)
    assert found[10:20].isnan().all()
    assert found[:10].isfinite().all()
    assert found[20:].isfinite().all()


@pytest.mark.parametrize("num_turned", [2, 3])
def test_rotation_equals_ours(kernel: PackedAttention, num_turned: int) -> None:
    states, angles = random(20, 3, 2, 64), torch.rand(20, 1, 32) * 6.0
    rotation = Rotation(sine=angles.sin(), cosine=angles.cos())
    expected = states.clone()
    expected[:, :num_turned] = rotation.turn(states[:, :num_turned].flatten(1, 2)).unflatten(1, (num_turned, 2))
    kernel.rotate(states, num_turned, rotation.sine, rotation.cosine)
    torch.testing.assert_close(states, expected)


def test_products_of_torch_are_unharmed(kernel: PackedAttention) -> None:
    """Its kernels and ours use the same registers in turn."""
    left, right = random(256, 256), random(256, 256)
    expected = left @ right
    for _ in range(3):
        kernel.attend(random(64, 3, 4, 64), torch.tensor([0, 64], dtype=torch.int32), causal=False)
        assert torch.equal(left @ right, expected)


def test_compiled_once_and_kept(kernel: PackedAttention, fresh: Path) -> None:
    assert packed_attention() is not None
    (library,) = fresh.rglob("*.so")
    made = library.stat().st_mtime_ns
    packed_attention.cache_clear()
    assert packed_attention() is not None
    assert library.stat().st_mtime_ns == made


@pytest.mark.parametrize("compilers", [(), ("false",)], ids=["none", "failing"])
def test_without_a_compiler_torch_does_it(
    kernel: PackedAttention,
    fresh: Path,
    compilers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(kernels, "_COMPILERS", compilers)
    with caplog.at_level(logging.WARNING):
        assert packed_attention() is None
    assert "attention runs in torch" in caplog.text
    assert not list(fresh.rglob("*.so"))
