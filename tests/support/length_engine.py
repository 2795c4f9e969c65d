"""An engine without a model: the result of a text is its length, and chosen texts fail at chosen stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine import ERROR_FIELD, Results

Hook = Callable[[pa.Array], Any]


@dataclass(kw_only=True)
class LengthEngine:
    """Stands in for `pipeline.engine.Engine`.

    A hook is called with each window's texts, those of rows with an error left out, and may raise or wait.
    """

    on_encode: Hook = lambda texts: None
    on_forward: Hook = lambda texts: None
    on_decode: Hook = lambda texts: None
    schema: pa.Schema = field(default_factory=lambda: pa.schema([pa.field("length", pa.int64()), ERROR_FIELD]))

    num_batches: int = 0

    def encode(self, texts: pa.Array, pairs: pa.Array | None = None, *, errors: dict[int, str]) -> Any:
        good = pa.array([row not in errors for row in range(len(texts))], pa.bool_())
        self.on_encode(texts.filter(good))
        return texts, good, errors

    def forward(self, window: Any) -> Any:
        texts, good, _ = window
        self.on_forward(texts.filter(good))
        self.num_batches += 1
        return texts

    def pick(self, window: Any, outputs: Any, rest: Any) -> Any:
        return outputs

    def decode(self, window: Any, outputs: Any) -> Results:
        _, good, errors = window
        self.on_decode(outputs.filter(good))
        lengths = pc.if_else(good, pc.cast(pc.utf8_length(outputs), pa.int64()), None)
        reasons = pa.array([errors.get(row) for row in range(len(outputs))], pa.string())
        columns = pa.record_batch([lengths, reasons], schema=self.schema)
        return Results(columns=columns, num_empty=0, num_errors=len(errors), num_long=0, num_tokens=len(lengths))
