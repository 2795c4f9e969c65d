"""Activation functions by the names that configurations use."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)


class Activation(nn.Module):
    """A function as a module, so that blocks need not tell those with parameters from those without."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, states: Tensor) -> Tensor:
        return self.function(states)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class XIELU(nn.Module):
    """xIELU with its trainable slopes: "Deriving Activation Functions Using Integration", arXiv 2411.13010."""

    beta: Tensor
    eps: Tensor

    def __init__(self) -> None:
        super().__init__()
        # In bfloat16 whatever the model's dtype: that is what checkpoints have, and trained with.
        self.alpha_p = nn.Parameter(torch.empty(1, dtype=torch.bfloat16))
        self.alpha_n = nn.Parameter(torch.empty(1, dtype=torch.bfloat16))
        # Constants, but checkpoints have them.
        self.register_buffer("beta", torch.empty((), dtype=torch.bfloat16))
        self.register_buffer("eps", torch.empty((), dtype=torch.bfloat16))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.beta.fill_(0.5)
            self.eps.fill_(-1e-6)
            self.alpha_p.fill_(math.log(math.expm1(0.8)))
            self.alpha_n.fill_(math.log(math.expm1(0.8 - 0.5)))

    def forward(self, states: Tensor) -> Tensor:
        slope_p = functional.softplus(self.alpha_p)
        slope_n = self.beta + functional.softplus(self.alpha_n)
        negative = (torch.expm1(torch.minimum(states, self.eps)) - states) * slope_n
        return torch.where(states > 0, slope_p * states * states, negative) + self.beta * states


def gelu_new(states: Tensor) -> Tensor:
    return 0.5 * states * (1.0 + torch.tanh(SQRT_2_OVER_PI * (states + 0.044715 * states.pow(3))))


def gelu_fast(states: Tensor) -> Tensor:
    return 0.5 * states * (1.0 + torch.tanh(states * 0.7978845608 * (1.0 + 0.044715 * states * states)))


def gelu_10(states: Tensor) -> Tensor:
    return functional.gelu(states).clip(-10.0, 10.0)


def gelu_pytorch_tanh(states: Tensor) -> Tensor:
    return functional.gelu(states, approximate="tanh")


def quick_gelu(states: Tensor) -> Tensor:
    return states * torch.sigmoid(1.702 * states)


def relu2(states: Tensor) -> Tensor:
    return functional.relu(states).square()


def laplace(states: Tensor) -> Tensor:
    """Of "Mega", arXiv 2209.10655, with its mean and deviation."""
    return 0.5 * (1.0 + torch.erf((states - 0.707107) / (0.282095 * math.sqrt(2.0))))


def sqrtsoftplus(states: Tensor) -> Tensor:
    return functional.softplus(states).sqrt()


def linear(states: Tensor) -> Tensor:
    return states


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_10": gelu_10,
    "gelu_accurate": gelu_new,
    "gelu_fast": gelu_fast,
    "gelu_new": gelu_new,
    "gelu_python": functional.gelu,
    "gelu_python_tanh": gelu_new,
    "gelu_pytorch_tanh": gelu_pytorch_tanh,
    "hardswish": functional.hardswish,
    "laplace": laplace,
    "leaky_relu": functional.leaky_relu,
    "linear": linear,
    "mish": functional.mish,
    "quick_gelu": quick_gelu,
    "relu": functional.relu,
    "relu2": relu2,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "sqrtsoftplus": sqrtsoftplus,
    "swish": functional.silu,
    "tanh": torch.tanh,
}
MODULES: dict[str, type[nn.Module]] = {"prelu": nn.PReLU, "xielu": XIELU}


def activation(name: str | Callable[[Tensor], Tensor]) -> nn.Module:
    """The module for a config's activation: one of our names, or a function given as it is.

    Raises:
        KeyError: no such name.
    """
    if not isinstance(name, str):
        return name if isinstance(name, nn.Module) else Activation(name)
    if name in MODULES:
        return MODULES[name]()
    if name not in FUNCTIONS:
        raise KeyError(f"activation: expected one of {', '.join(sorted([*FUNCTIONS, *MODULES]))}; found {name!r}")
    return Activation(FUNCTIONS[name])
