"""An engine without a model: the result of a text is its length, and chosen texts fail at chosen stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.device import Moment
from pipeline.engine import ERROR_FIELD, Launched, Results

Hook = Callable[[pa.Array], Any]


@dataclass(kw_only=True)
class LengthEngine:
    """Stands in for `pipeline.engine.Engine`.

    A hook is called with each window's texts, those of rows with an error left out, and may raise or wait.
    """

    on_encode: Hook = lambda texts: None
    on_forward: Hook = lambda texts: None
    on_collect: Hook = lambda texts: None
    on_decode: Hook = lambda texts: None
    schema: pa.Schema = field(default_factory=lambda: pa.schema([pa.field("length", pa.int64()), ERROR_FIELD]))

    num_batches: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def encode(self, texts: pa.Array, pairs: pa.Array | None = None, *, errors: dict[int, str]) -> Any:
        good = pa.array([row not in errors for row in range(len(texts))], pa.bool_())
        self.on_encode(texts.filter(good))
        return texts, good, errors

    def launch(self, window: Any) -> Launched:
        texts, good, _ = window
        begun = Moment(self.device)
        self.on_forward(texts.filter(good))
        self.num_batches += 1
        return Launched(
            num_tokens=0, token_budget=1, begun=begun, ended=Moment(self.device), outputs=texts, place=np.arange(0)
        )

    def collect(self, launched: Launched) -> Any:
        self.on_collect(launched.outputs)
        return launched.outputs

    def pick(self, window: Any, outputs: Any, rest: Any) -> Any:
        return outputs

    def decode(self, window: Any, outputs: Any) -> Results:
        _, good, errors = window
        self.on_decode(outputs.filter(good))
        lengths = pc.if_else(good, pc.cast(pc.utf8_length(outputs), pa.int64()), None)
        reasons = pa.array([errors.get(row) for row in range(len(outputs))], pa.string())
        columns = pa.record_batch([lengths, reasons], schema=self.schema)
        return Results(columns=columns, num_empty=0, num_errors=len(errors), num_long=0, num_tokens=len(lengths))
