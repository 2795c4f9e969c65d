"""The packed token batch: what one forward pass takes.

Legend: T tokens in the batch, N sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """N token sequences laid end to end, without padding.

    Sequence i holds the tokens `cu_seqlens[i]:cu_seqlens[i + 1]`. No sequence is empty.
    """

    input_ids: Tensor  # [T] int64
    cu_seqlens: Tensor  # [N + 1] int32, on the device of input_ids
    seqlens: tuple[int, ...]  # the N lengths, on the host: planning attention needs no device sync
    token_type_ids: Tensor | None = None  # [T] int64; None means all zero
    extras: dict[str, Tensor] = field(default_factory=dict)  # a family's own ids by argument name, each [T]

    @classmethod
    def from_sequences(cls, sequences: list[list[int]], *, device: torch.device | str = "cpu") -> TokenBatch:
        """Packs lists of token ids; for tests and small uses."""
        flat = [token for sequence in sequences for token in sequence]
        return cls.from_flat(torch.tensor(flat, dtype=torch.int64), [len(s) for s in sequences], device=device)

    @classmethod
    def from_flat(
        cls,
        input_ids: Tensor,
        seqlens: list[int],
        *,
        token_type_ids: Tensor | None = None,
        extras: dict[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> TokenBatch:
        """Packs ids that already lie end to end; `seqlens` are the N lengths in order."""
        boundaries = torch.zeros(len(seqlens) + 1, dtype=torch.int32)
        torch.cumsum(torch.tensor(seqlens, dtype=torch.int32), 0, out=boundaries[1:])
        return cls(
            input_ids=_send(input_ids, device).long(),
            cu_seqlens=_send(boundaries, device),
            seqlens=tuple(seqlens),
            token_type_ids=None if token_type_ids is None else _send(token_type_ids, device).long(),
            extras={name: _send(ids, device).long() for name, ids in (extras or {}).items()},
        )

    @property
    def num_sequences(self) -> int:
        return len(self.seqlens)

    @property
    def num_tokens(self) -> int:
        return self.input_ids.shape[0]

    @property
    def max_seqlen(self) -> int:
        return max(self.seqlens)


def _send(values: Tensor, device: torch.device | str) -> Tensor:
    """Copies to the device; to a GPU from pinned memory, because from other memory the host would wait for it."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
