"""Embedding: a vector for each text.

Legend: M texts, N token sequences (windows of long texts included), T tokens, H the model's hidden size, D values in
the vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from jobs.task import TaskOptions
from jobs.windows import max_over_windows, mean_over_windows
from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding
from pipeline.errors import SpecError
from pipeline.options import Count
from pipeline.task import Decoded, EncodingPlan, Head

Pooling = Literal["cls", "mean", "max", "pooler"]

# What sentence-transformers' pooling modules call the poolings that we have.
_POOLING_BY_KEY: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


class EmbedTask(TaskOptions):
    """`task: {type: embed}`."""

    type: Literal["embed"] = "embed"
    # How token vectors become one. auto: as the model's 1_Pooling/config.json says, else mean.
    pooling: Literal["auto"] | Pooling = "auto"
    normalize: Literal["auto"] | bool = "auto"  # to length 1. auto: where the model's modules.json says so
    prefix: str = ""  # put before each text, for models that were trained with prompts ("query: ")
    dimensions: Count | None = None  # keep the first n values, for models trained for it; normalised again if at all
    dtype: Literal["float32", "float16"] = "float32"  # of the output
    long_text: Literal["windows", "truncate"] = "windows"  # what to do with a text longer than the model

    @property
    def head(self) -> Head:
        return "encoder"

    def bind(self, config: Any, tokenizer: Any, model_path: Path | None) -> BoundEmbed:
        """See `pipeline.task.Task.bind`."""
        sentence = _SentenceFiles() if model_path is None else _read_sentence_files(model_path)
        if self.pooling == "auto" and sentence.unsupported is not None:
            raise SpecError(f"task.pooling: {sentence.unsupported}; name a pooling to use the model without it")
        if self.dimensions is not None and self.dimensions > config.hidden_size:
            raise SpecError(
                f"task.dimensions: the model's vectors have {config.hidden_size} values, found {self.dimensions}"
            )
        limits = () if sentence.max_length is None else (sentence.max_length,)
        return BoundEmbed(
            encoding=EncodingPlan(
                max_length=self.sequence_length(config, tokenizer, *limits),
                overflow=self.long_text == "windows",
                prefix=self.prefix,
            ),
            pooling=sentence.pooling if self.pooling == "auto" else self.pooling,
            normalize=sentence.normalize if self.normalize == "auto" else self.normalize,
            dimensions=self.dimensions or config.hidden_size,
            dtype=self.dtype,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundEmbed:
    """Embedding with a known model."""

    encoding: EncodingPlan
    pooling: Pooling
    normalize: bool
    dimensions: int  # D
    dtype: Literal["float32", "float16"]

    @property
    def fields(self) -> Sequence[pa.Field]:
        value_type = pa.float16() if self.dtype == "float16" else pa.float32()
        return [pa.field("embedding", pa.list_(value_type, self.dimensions))]

    @property
    def per_token(self) -> bool:
        return False

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        """Gives one vector a sequence, [N, D] float32, not normalised."""
        output = model.forward_packed(batch, first_tokens=self.pooling in ("cls", "pooler"))
        return (self._pool(output, batch.cu_seqlens)[:, : self.dimensions],)

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        """See `pipeline.task.BoundTask.decode`."""
        merge = max_over_windows if self.pooling == "max" else mean_over_windows
        vectors = merge(outputs[0].astype(np.float32, copy=False), encoding)
        if self.normalize:
            # A vector of zeros stays one.
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        errors: dict[int, str] = {}
        if self.dtype == "float16":
            with np.errstate(over="ignore"):
                narrow = vectors.astype(np.float16)
            too_large = np.flatnonzero(np.isinf(narrow).any(axis=1))
            errors = dict.fromkeys(too_large.tolist(), "the embedding has values too large for float16")
            values = pa.array(narrow.ravel())
        else:
            values = pa.array(vectors.ravel())
        return Decoded(columns=[pa.FixedSizeListArray.from_arrays(values, self.dimensions)], errors=errors)

    def _pool(self, output: Any, cu_seqlens: Tensor) -> Tensor:
        """[N, H] float32."""
        if self.pooling == "pooler":
            if output.pooler_output is None:
                raise SpecError("task.pooling: this model has no pooler; expected one of cls, mean, max")
            pooled: Tensor = output.pooler_output
            return pooled.float()
        states: Tensor = output.last_hidden_state
        if self.pooling == "cls":
            return states.float()
        # Each sequence is summed on its own and in order: its vector does not depend on its neighbours.
        return torch.segment_reduce(states.float(), self.pooling, offsets=cu_seqlens.long())


@dataclass(frozen=True, slots=True, kw_only=True)
class _SentenceFiles:
    """What the files that sentence-transformers puts next to a model say."""

    pooling: Pooling = "mean"
    normalize: bool = False
    max_length: int | None = None  # tokens
    unsupported: str | None = None  # what the model does to its vectors and we do not


def _read_sentence_files(folder: Path) -> _SentenceFiles:
    modules = _read_json(folder / "modules.json") or []
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    pooling_folder = next(
        (module["path"] for module, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "1_Pooling"
    )
    pooling, unsupported = _read_pooling(folder / pooling_folder / "config.json")
    others = sorted(set(kinds) - set(_KNOWN_MODULES))
    if others:
        unsupported = f"the model's modules.json has {', '.join(others)}, which is not supported"
    return _SentenceFiles(
        pooling=pooling,
        normalize="Normalize" in kinds,
        max_length=(_read_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length"),
        unsupported=unsupported,
    )


def _read_pooling(path: Path) -> tuple[Pooling, str | None]:
    options = _read_json(path)
    if options is None:
        return "mean", None
    modes = [key for key, value in options.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) == 1 and modes[0] in _POOLING_BY_KEY:
        return _POOLING_BY_KEY[modes[0]], None
    return (
        "mean",
        f"the model's {path.parent.name}/config.json asks for {' with '.join(modes) or 'no pooling that we know'}",
    )


def _read_json(path: Path) -> Any:
    """What is in the file, or None where it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise SpecError(f"model: {path} is not readable JSON") from None
