"""What the machine can do at best: the rate of large matrix products, against which the rest is held."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor

from pipeline.device import synchronize

# (m, k, n) of products [m, k] @ [k, n]: cubes, and those that an encoder's feed-forward block makes of many tokens.
_SHAPES = {
    "cpu": ((2048, 2048, 2048), (4096, 768, 3072), (4096, 3072, 768)),
    "cuda": ((8192, 8192, 8192), (16384, 4096, 4096), (65536, 1024, 4096)),
}
_LEAST_PRODUCTS = 3  # of a shape, however slow


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 1.0) -> float:
    """Floating-point operations a second of the best of several large products.

    Of each shape the median counts: a core that is fast for a moment, and then hot, is no ceiling.

    Args:
        seconds: to spend in all, roughly.
    """
    shapes = _SHAPES.get(device.type, _SHAPES["cpu"])
    return max(_rate(*shape, device, dtype, seconds / len(shapes)) for shape in shapes)


@torch.inference_mode()
def _rate(m: int, k: int, n: int, device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    left = torch.randn(m, k, device=device).to(dtype)
    right = torch.randn(n, k, device=device).to(dtype).T  # as a layer's weights lie
    product = torch.empty(m, n, device=device, dtype=dtype)
    _timed(left, right, product)  # the first one chooses its kernel
    times: list[float] = []
    while sum(times) < seconds or len(times) < _LEAST_PRODUCTS:
        times.append(_timed(left, right, product))
    return 2 * m * k * n / median(times)


def _timed(left: Tensor, right: Tensor, product: Tensor) -> float:
    synchronize(left.device)
    begun = time.perf_counter()
    torch.mm(left, right, out=product)
    synchronize(left.device)
    return time.perf_counter() - begun
