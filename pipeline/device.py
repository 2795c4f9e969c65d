"""Where a GPU differs from a CPU: it works while the host goes on, and copies by itself what lies in pinned memory."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor


class Moment:
    """A moment in a device's work: on a GPU, when it has done all that was sent to it before; on a CPU, now."""

    def __init__(self, device: torch.device) -> None:
        self._event: Any = None  # a torch.cuda.Event
        if device.type == "cuda":
            # Blocking: a host thread that waits for it sleeps instead of taking a core from the tokenizer.
            self._event = torch.cuda.Event(enable_timing=True, blocking=True)
            self._event.record(torch.cuda.current_stream(device))
        self._time = time.perf_counter()

    def wait(self) -> None:
        """Returns once it has come."""
        if self._event is not None:
            self._event.synchronize()

    def since(self, earlier: Moment) -> float:
        """Seconds from an earlier moment of the same device. Both have come."""
        if self._event is None or earlier._event is None:
            return self._time - earlier._time
        return float(earlier._event.elapsed_time(self._event)) / 1000


def to_host(tensor: Tensor) -> Tensor:
    """The values on the host, in a dtype that numpy has; from a GPU they are there once a later `Moment` has come."""
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return wide.to("cpu", non_blocking=True)  # which makes it pinned memory


def synchronize(device: torch.device) -> None:
    """Waits for what was sent to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
