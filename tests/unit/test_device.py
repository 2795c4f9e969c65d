"""A device's moments, on the CPU, and where there is one on a GPU."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch
from torch import nn

from pipeline.device import Moment, to_host
from pipeline.engine import Engine
from tests.support.number_engine import NumberTokenizer, SumTask

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_moments_come_one_after_another(device: str) -> None:
    begun = Moment(torch.device(device))
    torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
    ended = Moment(torch.device(device))
    ended.wait()
    assert 0 <= ended.since(begun) < 60


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_values_are_on_the_host_after_the_moment(device: str, dtype: torch.dtype) -> None:
    values = to_host(torch.arange(100, device=device).to(dtype))
    Moment(torch.device(device)).wait()
    assert values.numpy().tolist() == list(range(100))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("per_token", [False, True])
def test_windows_that_are_launched_ahead_keep_their_results_apart(device: str, per_token: bool) -> None:
    engine = Engine(nn.Linear(1, 1).to(device), NumberTokenizer(), SumTask(per_token=per_token), token_budget=4)
    windows = [engine.encode(pa.array([f"{first} 2 3", "1", f"{first} {first}"])) for first in (20, 30, 40)]
    launched = [engine.launch(window) for window in windows]
    found = [engine.decode(window, engine.collect(one)) for window, one in zip(windows, launched, strict=True)]
    sums = [results.columns.column("sum").to_pylist() for results in found]
    assert sums == [[first + 5, 1, 2 * first] for first in (20, 30, 40)]
