"""An engine on numbers: a text is its numbers, its result their sum, and one knows by heart what must come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding
from pipeline.task import Decoded, EncodingPlan

POISON = 13  # a token whose result is not a number


class NumberTokenizer:
    """A text is its numbers; `max_length` of them make a sequence, and longer texts give several."""

    def encode_flat(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int, **_: Any
    ) -> FlatEncoding:
        sequences, owners = [], []
        for number, text in enumerate(texts):
            ids = [int(word) for word in re.findall(r"\d+", text)]
            for start in range(0, len(ids), max_length):
                sequences.append(ids[start : start + max_length])
                owners.append(number)
        return FlatEncoding(
            input_ids=np.array([token for sequence in sequences for token in sequence], np.int32),
            cu_seqlens=np.cumsum([0, *map(len, sequences)], dtype=np.int64),
            text_index=np.array(owners, np.int32),
        )


@dataclass(kw_only=True)
class SumTask:
    """The sum of a text's numbers, by sequence or by token; a text with the number 7 is refused."""

    per_token: bool = False
    encoding: EncodingPlan = field(default_factory=lambda: EncodingPlan(max_length=4))
    fields: Sequence[pa.Field] = (pa.field("sum", pa.float64()),)
    batches: list[int] = field(default_factory=list)
    most_tokens: int = 1 << 30  # that the device has memory for
    too_many: Exception = field(default_factory=lambda: torch.OutOfMemoryError("no"))

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        if batch.num_tokens > self.most_tokens:
            raise self.too_many
        self.batches.append(batch.num_tokens)
        values = torch.where(batch.input_ids == POISON, float("nan"), batch.input_ids.float())
        if self.per_token:
            return (values,)
        return (torch.stack([part.sum() for part in values.split(list(batch.seqlens))]),)

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        owner = encoding.text_index
        if self.per_token:
            owner = np.repeat(owner, encoding.seqlens)
        sums = np.bincount(owner, weights=outputs[0].astype(np.float64), minlength=len(texts))
        refused = {place: "seven" for place, text in enumerate(texts) if "7" in text.split()}
        return Decoded(columns=[pa.array(sums)], errors=refused)
