"""Making a loaded model faster at the price of everything but inference."""

from __future__ import annotations

import ctypes
import logging
from typing import cast

from torch import nn

from models.kernels import encoder_kernel
from models.layers.block import Block, BlockStack
from models.layers.fused_block import FusedBlock, can_fuse
from models.layers.tiled_stack import TiledStack, can_tile

logger = logging.getLogger(__name__)

_KEPT_BYTES = 512 << 20  # at most so much freed memory stays with the process
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h


def optimize_for_inference(model: nn.Module) -> None:
    """Exchanges the model's blocks, in place, for ones that give the same hidden states up to rounding, and sooner.

    Afterwards the model can neither be trained nor saved, gives no attentions, and may refuse padded batches. Blocks
    for which there is nothing faster stay as they are; on CUDA that is all of them.
    """
    parents = [
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, BlockStack)
    ]
    for parent, name in parents:
        stack = cast(BlockStack, getattr(parent, name))
        kernel = encoder_kernel() if can_tile(stack) else None
        if kernel is not None:
            setattr(parent, name, TiledStack(stack, kernel))
            logger.info("the model's blocks run on the CPU's matrix tiles")
            continue
        for index, block in enumerate(stack.layer):
            if isinstance(block, Block) and can_fuse(block):
                stack.layer[index] = FusedBlock(block)


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
