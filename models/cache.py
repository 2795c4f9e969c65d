"""Keys and values of tokens that decoder blocks have already seen.

Legend: B batch, A heads, S key length, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

LayerStates = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor, Tensor]


class LayerCache:
    """One block's keys and values, each [B, A, S, D]; those of cross-attention are computed once and kept."""

    __slots__ = ("cross_key", "cross_value", "key", "value")

    def __init__(self) -> None:
        self.key: Tensor | None = None
        self.value: Tensor | None = None
        self.cross_key: Tensor | None = None
        self.cross_value: Tensor | None = None

    @property
    def length(self) -> int:
        return 0 if self.key is None else self.key.shape[2]

    @property
    def cross_states(self) -> tuple[Tensor, Tensor] | None:
        if self.cross_key is None or self.cross_value is None:
            return None
        return self.cross_key, self.cross_value

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds new tokens on the right and returns the states of all."""
        self.key = key if self.key is None else torch.cat((self.key, key), dim=2)
        self.value = value if self.value is None else torch.cat((self.value, value), dim=2)
        return self.key, self.value

    def states(self) -> LayerStates:
        """(key, value), or (key, value, cross key, cross value)."""
        if self.key is None or self.value is None:
            raise IndexError("the cache holds no states yet")
        if self.cross_key is None or self.cross_value is None:
            return self.key, self.value
        return self.key, self.value, self.cross_key, self.cross_value


class KeyValueCache(Sequence[LayerStates]):
    """All blocks' states; a forward pass that is given one extends it in place and returns it.

    `cache[layer]` is `(key, value)`, or with cross-attention `(key, value, cross_key, cross_value)`.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = [LayerCache() for _ in range(num_layers)]

    @classmethod
    def from_legacy_cache(cls, past_key_values: Sequence[LayerStates]) -> Self:
        """Takes over what indexing gives: a tuple of each layer's tensors."""
        cache = cls(len(past_key_values))
        for layer, states in zip(cache.layers, past_key_values, strict=True):
            layer.key, layer.value = states[:2]
            if len(states) == 4:
                layer.cross_key, layer.cross_value = states[2:]
        return cache

    def to_legacy_cache(self) -> tuple[LayerStates, ...]:
        return tuple(self)

    def get_seq_length(self) -> int:
        """How many tokens of each row it holds, padding included."""
        return self.layers[0].length if self.layers else 0

    def reorder_cache(self, beam_index: Tensor) -> None:
        """Makes row i what row `beam_index[i]` was."""
        for layer in self.layers:
            for name in LayerCache.__slots__:
                states: Tensor | None = getattr(layer, name)
                if states is not None:
                    setattr(layer, name, states.index_select(0, beam_index.to(states.device)))

    def __getitem__(self, index: int) -> LayerStates:  # type: ignore[override]  # no slices
        return self.layers[index].states()

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerStates]:
        return (layer.states() for layer in self.layers)
