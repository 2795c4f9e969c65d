"""All blocks of a stack in one call, for inference in bfloat16 on a CPU with matrix tiles (AMX).

Legend: T tokens, H hidden size, D head size, I intermediate size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.kernels import EncoderKernel, lay_out
from models.layers.attention import Attention
from models.layers.block import Block, BlockStack, StackOutput
from models.layers.fused_block import refuse
from models.layers.layout import Layout, PackedLayout


class TiledStack(nn.Module):
    """A `BlockStack` that takes packed batches only, without anything that looks inside: no gradients, cache, head mask
    or probabilities.

    The weights are no parameters: as they lie, no state dict, copy or other device could use them.
    """

    def __init__(self, stack: BlockStack, kernel: EncoderKernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.num_heads = stack.num_heads
        blocks = [block for block in stack.layer if isinstance(block, Block)]
        self.weights = [_weights(block) for block in blocks]
        self.intermediate_size = blocks[0].intermediate.dense.out_features
        self.epsilon = blocks[0].output.LayerNorm.eps
        stack.layer = nn.ModuleList()  # so that the weights are there once
        self.stack = stack
        self.layer = stack.layer  # none that anybody could look into
        self.gradient_checkpointing = False
        self.train(stack.training)

    def forward(self, states: Tensor, layout: Layout, *, first_tokens: bool = False, **options: Any) -> StackOutput:
        """[T, H] to [T, H], or where only first tokens are wanted to [N, H].

        Raises:
            ValueError: the batch is padded, or something is asked for that only a `BlockStack` has.
        """
        if not isinstance(layout, PackedLayout):
            raise ValueError(
                "a model that was prepared for inference takes packed batches here; found a padded one: call "
                "forward_packed"
            )
        refuse(options)
        if torch.is_grad_enabled() and states.requires_grad:
            raise ValueError(
                "a model that was prepared for inference has no gradients: run it in torch.inference_mode()"
            )
        rotation = self.stack.rotation(states, layout)
        last = self.kernel.encode(
            states,
            layout.cu_seqlens,
            self.weights,
            num_heads=self.num_heads,
            intermediate_size=self.intermediate_size,
            epsilon=self.epsilon,
            causal=layout.causal,
            rotation=None if rotation is None else (rotation.sine, rotation.cosine),
            rotates_values=rotation is not None and rotation.of_values,
            first_tokens=first_tokens,
        )
        return StackOutput(last_hidden_state=last)


def can_tile(stack: BlockStack) -> bool:
    """Whether a stack has the dtype, sizes and activation that the kernel has, and nothing else."""
    norms = {norm.eps for block in stack.layer for norm in block.modules() if isinstance(norm, nn.LayerNorm)}
    return len(norms) == 1 and all(type(block) is Block and _can_tile(block) for block in stack.layer)


def _can_tile(block: Block) -> bool:
    sizes = (*block.intermediate.dense.weight.shape, block.attention.self.head_size)
    return (
        block.is_plain
        and block.intermediate.is_gelu
        and all(size % 32 == 0 for size in sizes)
        and all(weight.device.type == "cpu" and weight.dtype == torch.bfloat16 for weight in block.parameters())
    )


@torch.no_grad()
def _by_head(attention: Attention) -> nn.Linear:
    """Queries, keys and values as one layer, with those of a head side by side."""
    layers = (attention.query, attention.key, attention.value)
    joined = nn.Linear(attention.query.in_features, 3 * attention.query.out_features, device="meta")
    for name in ("weight", "bias"):
        parts = torch.stack([getattr(layer, name).unflatten(0, (-1, attention.head_size)) for layer in layers], dim=1)
        setattr(joined, name, nn.Parameter(parts.flatten(0, 2), requires_grad=False))
    return joined


def _weights(block: Block) -> tuple[Tensor, ...]:
    """A block's weights in the order in which the kernel takes them (`Layer` in encoder.cpp)."""
    return (
        *lay_out(_by_head(block.attention.self)),
        *lay_out(block.attention.output.dense),
        *_norm(block.attention.output.LayerNorm),
        *lay_out(block.intermediate.dense),
        *lay_out(block.output.dense),
        *_norm(block.output.LayerNorm),
    )


def _norm(layer: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """A norm's weight and bias in float32."""
    return layer.weight.detach().float(), layer.bias.detach().float()
