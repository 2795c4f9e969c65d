"""What the pipeline asks of a kind of job; `jobs/` holds the kinds.

A `Task` is what the user asked for. Bound to a model's config it becomes a `BoundTask`, which knows labels, windows and
output columns. Both are plain picklable values without weights: the driver binds too, to fail early on what a model
cannot do and to learn the output schema.

Legend: M texts in a window, N token sequences (windows of long texts included), T tokens, as in `FlatEncoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding

Head = Literal["sequence-classification", "token-classification", "encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingPlan:
    """How texts become token sequences."""

    max_length: int  # tokens in a sequence, special tokens included
    stride: int = 0  # tokens that two windows of one text share
    overflow: bool = True  # cut longer texts into windows; False truncates them
    offsets: bool = False  # ask for offsets and the special-token mask
    prefix: str = ""  # put before each text (embedding prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Result columns of M texts."""

    columns: Sequence[pa.Array]  # one per output field, each of length M
    errors: dict[int, str]  # text index -> why this row has no result; its values in `columns` are ignored


class BoundTask(Protocol):
    """A task that knows its model. Picklable, without state; called from several threads."""

    @property
    def fields(self) -> Sequence[pa.Field]:
        """The output columns, without the kept ones and `error`."""
        ...

    @property
    def encoding(self) -> EncodingPlan: ...

    @property
    def per_token(self) -> bool:
        """Whether `forward` gives one row a token ([T, ...]) or one a sequence ([N, ...])."""
        ...

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        """Runs the model and reduces its output on the device, to as little as `decode` needs."""
        ...

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        """Turns a window's outputs, in the order of `encoding`, into columns in the order of `texts`."""
        ...


class Task(Protocol):
    """A kind of job and its options, as in the spec's `task:`."""

    @property
    def head(self) -> Head:
        """Which head `models.load_model(path, task=head)` is to load."""
        ...

    def bind(self, config: Any, tokenizer: Any, model_path: Path | None) -> BoundTask:
        """Binds to a model's config, tokenizer and local folder; None for a model that was never in one.

        Raises:
            SpecError: the model cannot do this task, or an option contradicts it.
        """
        ...
