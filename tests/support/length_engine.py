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
    """Stands in for `pipeline.engine.Engine`. A hook is called with each window's texts, and may raise or wait."""

    on_encode: Hook = lambda texts: None
    on_forward: Hook = lambda texts: None
    on_decode: Hook = lambda texts: None
    schema: pa.Schema = field(default_factory=lambda: pa.schema([pa.field("length", pa.int64()), ERROR_FIELD]))

    def encode(self, texts: pa.Array, pairs: pa.Array | None = None, *, errors: dict[int, str]) -> Any:
        self.on_encode(texts)
        return texts

    def forward(self, texts: Any) -> Any:
        self.on_forward(texts)
        return texts

    def decode(self, window: Any, outputs: Any) -> Results:
        self.on_decode(outputs)
        lengths = pc.cast(pc.utf8_length(outputs), pa.int64())
        columns = pa.record_batch([lengths, pa.nulls(len(lengths), pa.string())], schema=self.schema)
        return Results(columns=columns, num_empty=0, num_errors=0, num_long=0, num_tokens=len(lengths))
