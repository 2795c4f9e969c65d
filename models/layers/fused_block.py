"""The block as inference has it: queries, keys and values in one product, and what follows a product done with it.

On a CPU weights are laid out once for oneDNN, which does the rest. On a GPU two functions are left around attention,
and those can be compiled: not attention, because it is one kernel already, and what it needs to know changes with each
batch.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size, A heads, D head size, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.attend import AttentionTerms
from models.layers.attention import Attention
from models.layers.block import AddNorm, Block
from models.layers.layout import Layout
from models.layers.rotary import Rotation

# What torch's own compiler lowers linear layers to. As calls they cost no compilation.
_linear: Any = torch.ops.mkldnn._linear_pointwise
_reorder: Any = torch.ops.mkldnn._reorder_linear_weight


class FusedLinear(Protocol):
    """Linear layers with the same inputs as one, their outputs side by side."""

    def __init__(self, *layers: nn.Linear) -> None: ...

    def __call__(self, states: Tensor, *, gelu: bool = False) -> Tensor:
        """[..., H] to [..., O], with the exact GELU on top if asked for."""

    def add(self, states: Tensor, residual: Tensor) -> Tensor:
        """[..., H] to [..., O], and the residual added."""


class LaidOutLinear:
    """Weights that lie as oneDNN's kernels read them, so that no call lays them out again; see `FusedLinear`.

    No module: the weights have no shape that a state dict, a copy or a move to another device could use.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        with torch.no_grad():
            self.weight = _reorder(torch.cat([layer.weight for layer in layers]).contiguous())
            self.bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, states: Tensor, *, gelu: bool = False) -> Tensor:
        attribute, algorithm = ("gelu", "none") if gelu else ("none", "")
        return cast(Tensor, _linear(states, self.weight, self.bias, attribute, [], algorithm))

    def add(self, states: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, _linear.binary(states, residual, self.weight, self.bias, "add"))


class JoinedLinear(nn.Module):
    """Weights as any device takes them; see `FusedLinear`."""

    def __init__(self, *layers: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]), requires_grad=False)
        self.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]), requires_grad=False)

    def forward(self, states: Tensor, *, gelu: bool = False) -> Tensor:
        projected = functional.linear(states, self.weight, self.bias)
        return functional.gelu(projected) if gelu else projected

    def add(self, states: Tensor, residual: Tensor) -> Tensor:
        return functional.linear(states, self.weight, self.bias) + residual


class FusedAddNorm(nn.Module):
    """`AddNorm` without dropout."""

    def __init__(self, layer: AddNorm, linear: type[FusedLinear]) -> None:
        super().__init__()
        self.LayerNorm = layer.LayerNorm
        self.project = linear(layer.dense)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.project.add(states, residual)))


class BeforeAttention(nn.Module):
    """The states' queries, keys and values."""

    def __init__(self, attention: Attention, linear: type[FusedLinear]) -> None:
        super().__init__()
        self.head_size = attention.head_size
        self.project = linear(attention.query, attention.key, attention.value)

    def forward(self, states: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """[..., H] to three of [..., A, D]."""
        query_key_value = self.project(states).unflatten(-1, (3, -1, self.head_size))
        parts = query_key_value.unbind(-3)
        if rotation is not None:
            num_turned = 3 if rotation.of_values else 2
            turned = rotation.turn(query_key_value[..., :num_turned, :, :].flatten(-3, -2))
            parts = (*turned.unflatten(-2, (num_turned, -1)).unbind(-3), *parts[num_turned:])
        query, key, value = parts
        return query, key, value


class AfterAttention(nn.Module):
    """What brings the contexts back to the stream, and the feed-forward block."""

    def __init__(self, block: Block, linear: type[FusedLinear]) -> None:
        super().__init__()
        self.attention_output = FusedAddNorm(block.attention.output, linear)
        self.widen = linear(block.intermediate.dense)
        self.is_gelu = block.intermediate.is_gelu
        self.activation = nn.Identity() if self.is_gelu else block.intermediate.intermediate_act_fn
        self.output = FusedAddNorm(block.output, linear)

    def forward(self, context: Tensor, states: Tensor) -> Tensor:
        """Contexts [..., A, D] and the block's states [..., H] to the new ones."""
        states = self.attention_output(context.flatten(-2), states)
        return cast(Tensor, self.output(self.activation(self.widen(states, gelu=self.is_gelu)), states))


class FusedBlock(nn.Module):
    """A `Block` for inference without anything that looks inside: no gradients, cache, head mask or probabilities."""

    def __init__(self, block: Block, linear: type[FusedLinear]) -> None:
        super().__init__()
        self.before_attention = BeforeAttention(block.attention.self, linear)
        self.after_attention = AfterAttention(block, linear)
        self.compile_parts(False)

    def compile_parts(self, wanted: bool) -> None:
        """Whether torch compiles both parts when they are called next; equal blocks share what is compiled."""
        parts = (self.before_attention, self.after_attention)
        self._parts = tuple(torch.compile(part, dynamic=True) for part in parts) if wanted else parts

    def forward(
        self,
        states: Tensor,
        layout: Layout,
        *,
        rotation: Rotation | None = None,
        first_tokens: bool = False,
        **options: Any,
    ) -> tuple[Tensor, None, None]:
        """The new states [..., H]; with `first_tokens` those of each sequence's first token, [N, H].

        Raises:
            ValueError: something is asked for that only a `Block` has.
        """
        refuse(options)
        before_attention, after_attention = self._parts
        query, key, value = before_attention(states, rotation)
        context, _ = layout.attend(query, key, value, AttentionTerms())
        if first_tokens:
            context, states = layout.first_tokens(context), layout.first_tokens(states)
        return after_attention(context, states), None, None


def refuse(options: Mapping[str, Any]) -> None:
    """Raises a ValueError for what only modules that look inside have: caches, masks, probabilities."""
    asked = [name for name, value in options.items() if value is not None and value is not False]
    if asked:
        raise ValueError(f"a model that was prepared for inference takes no {', '.join(asked)}")


def fused_linear(block: Block) -> type[FusedLinear] | None:
    """The linear layers that a `FusedBlock` would have on this block's device; None where there is nothing to gain."""
    weight = block.output.dense.weight
    if not block.is_plain:
        return None
    if weight.device.type == "cuda":
        return JoinedLinear
    has_kernels = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if has_kernels and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _kernels_take_bfloat16())):
        return LaidOutLinear
    return None


def _kernels_take_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
