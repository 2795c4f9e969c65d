"""Rotary position embedding: RoFormer, arXiv 2104.09864.

Legend: "..." is B, T on the padded layout and T on the packed one; A heads, D head size, P positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How far each token's vectors turn: neighbouring features are the two coordinates of a plane (equation 34)."""

    sine: Tensor  # broadcasts to [..., A, D / 2]
    cosine: Tensor
    of_values: bool = False  # whether values turn as queries and keys do

    def turn(self, states: Tensor) -> Tensor:
        """Rotates [..., A, D]."""
        if states.device.type == "cpu" and not torch.is_grad_enabled():
            # As complex numbers, in one pass: the strided halves below take thrice as long.
            pairs = states.to(torch.promote_types(states.dtype, torch.float32)).unflatten(-1, (-1, 2))
            turned = torch.view_as_complex(pairs) * torch.complex(self.cosine.to(pairs), self.sine.to(pairs))
            return torch.view_as_real(turned).flatten(-2).to(states.dtype)
        x, y = states.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((x * self.cosine - y * self.sine, y * self.cosine + x * self.sine), dim=-1)
        return turned.flatten(-2)


def sinusoid(num_positions: int, head_size: int) -> Tensor:
    """Sines, then cosines, of each position's angles: [P, D] float32.

    Position p turns plane i by p / 10000^(2i / D).
    """
    frequencies = 10000.0 ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()


class SinusoidTable(nn.Module):
    """The sinusoid as checkpoints store it, as a parameter that is not trained; a file may hold another table."""

    HALF_PRECISION_ERROR = 1e-2
    """A table that came through bfloat16 is off by up to 0.004 and still the sinusoid."""

    def __init__(self, *, num_positions: int, head_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_positions, head_size), requires_grad=False)

    def reset_parameters(self) -> None:
        self.weight.copy_(sinusoid(*self.weight.shape))

    def rows(self, num_positions: int) -> Tensor:
        """At least so many rows [P, D]: the table, and beyond its end the sinusoid that it is the beginning of.

        Raises:
            ValueError: more rows are asked for than there are, and the table is another one.
        """
        stored, head_size = self.weight.shape
        if num_positions <= stored:
            return self.weight
        longer = sinusoid(num_positions, head_size).to(self.weight)
        if not torch.allclose(self.weight, longer[:stored], rtol=0.0, atol=self.HALF_PRECISION_ERROR):
            raise ValueError(
                f"expected sequences of at most {stored} tokens, because the checkpoint's position table is not the "
                f"sinusoid and ends there; found one of {num_positions}"
            )
        return torch.cat((self.weight, longer[stored:]))
