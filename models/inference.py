"""Making a loaded model faster at the price of everything but inference."""

from __future__ import annotations

import ctypes
import logging

from torch import nn

from models.layers.block import Block, BlockStack
from models.layers.fused_block import FusedBlock, can_fuse

logger = logging.getLogger(__name__)

_KEPT_BYTES = 512 << 20  # at most so much freed memory stays with the process
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h


def optimize_for_inference(model: nn.Module) -> None:
    """Exchanges the model's blocks, in place, for ones that give the same hidden states up to rounding, and sooner.

    Afterwards the model can neither be trained nor saved, and gives no attentions. Blocks for which there is nothing
    faster stay as they are; on CUDA that is all of them.
    """
    num_fused = 0
    for stack in model.modules():
        if not isinstance(stack, BlockStack):
            continue
        for index, block in enumerate(stack.layer):
            if isinstance(block, Block) and can_fuse(block):
                stack.layer[index] = FusedBlock(block)
                num_fused += 1
    logger.info("%d blocks run with weights laid out for oneDNN", num_fused)


def keep_freed_memory() -> None:
    """Makes glibc keep what a forward pass frees, for the next one.

    By default it gives large blocks back to the system at once, and to have each page cleared and mapped anew took up
    to a quarter of a forward pass. Elsewhere, as with musl, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)  # other arenas than the first cannot grow, and unmap what is freed
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
