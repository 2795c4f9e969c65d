"""How much text makes a unit: about a minute and a half of a device's time, by a rough estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.options import WorkerOptions

UNIT_S = 90.0
BYTES_PER_TOKEN = 4.0  # of English text; three for Chinese: near enough
# Sustained floating-point operations a second, on the low side: a unit that takes longer than meant costs more to lose.
GPU_FLOPS = 150e12
CPU_CORE_FLOPS = 60e9
TOKENIZER_TOKENS_PER_S = 500_000.0  # of one worker: tiny models wait for it
SMALLEST_BYTES, LARGEST_BYTES = 64 << 10, 256 << 20
UNITS_PER_WORKER = 4  # at least, of a small corpus: so that all workers get some and end at about the same time


def unit_bytes(config: Any, workers: WorkerOptions, input_bytes: int) -> int:
    """Bytes of input text for one unit.

    Args:
        config: of the model.
        input_bytes: of all input files.
    """
    flops = GPU_FLOPS * workers.gpus if workers.gpus else CPU_CORE_FLOPS * workers.cpus
    tokens_per_s = min(flops / flops_per_token(config), TOKENIZER_TOKENS_PER_S)
    by_time = tokens_per_s * BYTES_PER_TOKEN * UNIT_S
    by_share = input_bytes / (workers.max * UNITS_PER_WORKER)
    return int(min(max(min(by_time, by_share), SMALLEST_BYTES), LARGEST_BYTES))


def flops_per_token(config: Any) -> float:
    """Floating-point operations that one token costs: two for each weight of the layers.

    The products between tokens, in attention, come on top (`attention_flops_per_token`), and whatever is done once a
    sequence.
    """
    hidden = config.hidden_size
    return float(2 * config.num_hidden_layers * (4 * hidden * hidden + 2 * hidden * config.intermediate_size))


def attention_flops_per_token(config: Any, seqlens: npt.NDArray[np.int64]) -> float:
    """Operations of the products between tokens, for one token of sequences of these lengths, on average."""
    keys_per_token = float((seqlens**2).sum() / seqlens.sum())  # a token attends to its whole sequence
    return float(4 * config.num_hidden_layers * config.hidden_size * keys_per_token)
