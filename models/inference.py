"""Making a loaded model faster at the price of everything but inference."""

from __future__ import annotations

import logging

from torch import nn

from models.layers.block import Block, BlockStack
from models.layers.fused_block import FusedBlock, can_fuse

logger = logging.getLogger(__name__)


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
