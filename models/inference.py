"""Making a loaded model faster at the price of everything but inference."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from typing import Any, cast

import torch
from torch import nn

from models.batch import TokenBatch
from models.kernels import encoder_kernel
from models.layers.block import Block, BlockStack
from models.layers.fused_block import FusedBlock, fused_linear
from models.layers.tiled_stack import TiledStack, can_tile

logger = logging.getLogger(__name__)

_KEPT_BYTES = 512 << 20  # at most so much freed memory stays with the process
_KEPT_PRODUCTS = 16  # a forward pass has about five
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h


def optimize_for_inference(model: nn.Module) -> None:
    """Exchanges the model's blocks, in place, for ones that give the same hidden states up to rounding, and sooner.

    Afterwards the model can neither be trained nor saved, gives no attentions, and may refuse padded batches. Blocks
    for which there is nothing faster stay as they are.
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
            linear = fused_linear(block) if isinstance(block, Block) else None
            if linear is not None:
                stack.layer[index] = FusedBlock(cast(Block, block), linear)


def mixes_lengths(model: nn.Module) -> bool:
    """Whether a model is faster on batches of long and short sequences than on those of about equal ones.

    The kernel for a CPU's matrix tiles makes groups of its own, and fills up a long sequence's with short ones.
    """
    return any(isinstance(module, TiledStack) for module in model.modules())


@torch.inference_mode()
def compile_blocks(model: nn.Module, batch: TokenBatch) -> None:
    """Has torch compile the blocks of an optimized model, which takes a pass of a batch; it serves those of any size.

    Where that fails, as without a compiler on the machine, the blocks go on as they are.
    """
    blocks = [module for module in model.modules() if isinstance(module, FusedBlock)]
    logger.info("compiling the model's blocks")
    begun = time.perf_counter()
    for block in blocks:
        block.compile_parts(True)
    try:
        cast(Any, model).forward_packed(batch)
    except Exception as error:  # of the compiler, or of what it calls: there is no telling which
        for block in blocks:
            block.compile_parts(False)
        logger.warning("the model's blocks cannot be compiled and go on without: %s", str(error).partition("\n")[0])
    else:
        logger.info("compiled the model's blocks in %.1f s", time.perf_counter() - begun)


def tune_memory() -> None:
    """Sets what glibc and oneDNN keep in a process that runs models on a CPU; to be called before the first is loaded.

    By default glibc gives large blocks back to the system at once, and to have each page cleared and mapped anew took
    up to a quarter of a forward pass: it is to keep them. Elsewhere, as with musl, nothing happens.

    oneDNN keeps a product for each number of rows that it has met, up to a megabyte each, the last 1,024 of them in
    two places. Numbers of tokens hardly come again, so that a worker grew by more than a gigabyte: it is to keep few.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)  # other arenas than the first cannot grow, and unmap what is freed
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # oneDNN's own, and that of torch's bridge
        os.environ.setdefault(name, str(_KEPT_PRODUCTS))
