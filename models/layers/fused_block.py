"""The block as inference on a CPU has it: weights laid out once for oneDNN, and what follows a product done with it.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size, A heads, D head size, O outputs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.activations import Activation
from models.layers.attend import AttentionTerms
from models.layers.block import AddNorm, Block
from models.layers.layout import Layout
from models.layers.rotary import Rotation

# What torch's own compiler lowers linear layers to. As calls they cost no compilation.
_linear: Any = torch.ops.mkldnn._linear_pointwise
_reorder: Any = torch.ops.mkldnn._reorder_linear_weight


class LaidOutLinear:
    """A linear layer whose weights lie as oneDNN's kernels read them, so that no call lays them out again.

    No module: the weights have no shape that a state dict, a copy or a move to another device could use.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        """Layers with the same inputs become one, their outputs side by side."""
        with torch.no_grad():
            self.weight = _reorder(torch.cat([layer.weight for layer in layers]).contiguous())
            self.bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, states: Tensor, *, gelu: bool = False) -> Tensor:
        """[..., H] to [..., O], with the exact GELU on top if asked for."""
        attribute, algorithm = ("gelu", "none") if gelu else ("none", "")
        return cast(Tensor, _linear(states, self.weight, self.bias, attribute, [], algorithm))

    def add(self, states: Tensor, residual: Tensor) -> Tensor:
        """[..., H] to [..., O], and the residual added before rounding."""
        return cast(Tensor, _linear.binary(states, residual, self.weight, self.bias, "add"))


class FusedAddNorm(nn.Module):
    """`AddNorm` without dropout."""

    def __init__(self, layer: AddNorm) -> None:
        super().__init__()
        self.LayerNorm = layer.LayerNorm
        self.project = LaidOutLinear(layer.dense)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.project.add(states, residual)))


class FusedBlock(nn.Module):
    """A `Block` for inference without anything that looks inside: no gradients, cache, head mask or probabilities."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        attention = block.attention.self
        self.head_size = attention.head_size
        self.project = LaidOutLinear(attention.query, attention.key, attention.value)
        self.attention_output = FusedAddNorm(block.attention.output)
        self.widen = LaidOutLinear(block.intermediate.dense)
        activation = block.intermediate.intermediate_act_fn
        self.has_gelu = isinstance(activation, Activation) and activation.function is functional.gelu
        self.activation = nn.Identity() if self.has_gelu else activation
        self.output = FusedAddNorm(block.output)

    def forward(
        self, states: Tensor, layout: Layout, *, rotation: Rotation | None = None, **options: Any
    ) -> tuple[Tensor, None, None]:
        """The new states [..., H].

        Raises:
            ValueError: something is asked for that only a `Block` has.
        """
        asked = [name for name, value in options.items() if value is not None and value is not False]
        if asked:
            raise ValueError(f"a model that was prepared for inference takes no {', '.join(asked)}")
        query_key_value = self.project(states).unflatten(-1, (3, -1, self.head_size))
        context = self._attend(query_key_value, layout, rotation)
        states = self.attention_output(context.flatten(-2), states)
        wide = self.activation(self.widen(states, gelu=self.has_gelu))
        return self.output(wide, states), None, None

    def _attend(self, query_key_value: Tensor, layout: Layout, rotation: Rotation | None) -> Tensor:
        """Contexts [..., A, D] of [..., 3, A, D]."""
        parts = query_key_value.unbind(-3)
        if rotation is not None:
            num_turned = 3 if rotation.of_values else 2
            turned = rotation.turn(query_key_value[..., :num_turned, :, :].flatten(-3, -2))
            parts = (*turned.unflatten(-2, (num_turned, -1)).unbind(-3), *parts[num_turned:])
        query, key, value = parts
        context, _ = layout.attend(query, key, value, AttentionTerms())
        return context


def can_fuse(block: Block) -> bool:
    """Whether a block is on a CPU, in a dtype that its kernels have, and without what `FusedBlock` lacks."""
    weight = block.output.dense.weight
    return (
        weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _kernels_take_bfloat16()))
        and block.crossattention is None
        and block.attention.self.distance_embedding is None
    )


def _kernels_take_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
