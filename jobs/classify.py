"""Classification: a label and a score for each text or pair of texts; or one number, where the model is a regression.

Legend: M texts, N token sequences (windows of long texts included), L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from jobs.labels import label_names
from jobs.task import TaskOptions
from jobs.windows import mean_over_windows
from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding
from pipeline.errors import SpecError
from pipeline.options import Count
from pipeline.task import Decoded, EncodingPlan, Head

Function = Literal["none", "softmax", "sigmoid"]
Floats = npt.NDArray[np.float32]


class ClassifyTask(TaskOptions):
    """`task: {type: classify}`."""

    type: Literal["classify"] = "classify"
    # What makes scores of logits. auto: none for a regression, sigmoid for a multi-label model or a single output,
    # else softmax.
    function_to_apply: Literal["auto"] | Function = "auto"
    top_k: Count | Literal["all"] | None = None  # give the k best labels as well, in `labels` and `scores`
    # The least score in `labels`; of probabilities in [0, 1]. Default: where a multi-label model says yes (0.5, or 0
    # for bare logits), unless top_k says how many.
    threshold: float | None = None
    long_text: Literal["windows", "truncate"] = "windows"  # what to do with a text longer than the model

    @property
    def head(self) -> Head:
        return "sequence-classification"

    def bind(self, config: Any, tokenizer: Any, model_path: Path | None) -> BoundClassify | BoundRegression:
        """See `pipeline.task.Task.bind`."""
        encoding = EncodingPlan(
            max_length=self.sequence_length(config, tokenizer), overflow=self.long_text == "windows"
        )
        names = label_names(config)
        function = self._function(config)
        if config.problem_type == "regression":
            for option in ("top_k", "threshold"):
                if getattr(self, option) is not None:
                    raise SpecError(f"task.{option}: this model is a regression, it has no labels to choose from")
            return BoundRegression(encoding=encoding, names=names, function=function)
        multi_label = config.problem_type == "multi_label_classification"
        if self.threshold is not None and self.top_k is None and not multi_label:
            raise SpecError("task.threshold: this model gives one label a text; ask for more of them with top_k")
        threshold = self.threshold
        if threshold is None and multi_label and self.top_k is None:
            threshold = 0.0 if function == "none" else 0.5
        top_k = len(names) if self.top_k in (None, "all") else min(int(self.top_k), len(names))
        return BoundClassify(
            encoding=encoding,
            names=names,
            function=function,
            top_k=top_k,
            threshold=threshold,
            ranked=multi_label or self.top_k is not None,
        )

    def _function(self, config: Any) -> Function:
        if self.function_to_apply != "auto":
            return self.function_to_apply
        if config.problem_type == "regression":
            return "none"
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return "sigmoid"
        return "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """What classification and regression share: one row of logits a sequence, one of scores a text."""

    encoding: EncodingPlan
    names: tuple[str, ...]
    function: Function

    @property
    def per_token(self) -> bool:
        return False

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        """Gives the logits, [N, L] float32."""
        return (model.forward_packed(batch).logits.float(),)

    def scores(self, encoding: FlatEncoding, logits: npt.NDArray[np.generic]) -> Floats:
        """[M, L]. The function is applied to the mean logits of a long text's windows, not to each window."""
        return _apply(self.function, mean_over_windows(logits.astype(np.float32, copy=False), encoding))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundClassify(_Scoring):
    """Classification with a known model."""

    top_k: int  # most labels in `labels`
    threshold: float | None  # least score in `labels`
    ranked: bool  # whether there are `labels` and `scores` next to `label` and `score`

    @property
    def fields(self) -> Sequence[pa.Field]:
        best = [pa.field("label", pa.string()), pa.field("score", pa.float32())]
        if not self.ranked:
            return best
        return [*best, pa.field("labels", pa.list_(pa.string())), pa.field("scores", pa.list_(pa.float32()))]

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        """See `pipeline.task.BoundTask.decode`."""
        scores = self.scores(encoding, outputs[0])
        names = pa.array(self.names, pa.string())
        best = scores.argmax(axis=1)
        columns = [names.take(pa.array(best)), pa.array(np.take_along_axis(scores, best[:, None], axis=1)[:, 0])]
        if self.ranked:
            # Stable, so that equal scores keep the order of the labels.
            order = np.argsort(-scores, axis=1, kind="stable")[:, : self.top_k]
            ranked = np.take_along_axis(scores, order, axis=1)
            chosen = np.ones_like(ranked, dtype=bool) if self.threshold is None else ranked >= self.threshold
            ends = pa.array(np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int32))
            columns += [
                pa.ListArray.from_arrays(ends, names.take(pa.array(order[chosen]))),
                pa.ListArray.from_arrays(ends, pa.array(ranked[chosen])),
            ]
        return Decoded(columns=columns, errors={})


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRegression(_Scoring):
    """Regression with a known model: one number a text, or one for each of the model's named outputs."""

    @property
    def fields(self) -> Sequence[pa.Field]:
        if len(self.names) == 1:
            return [pa.field("score", pa.float32())]
        return [pa.field("score", pa.struct([pa.field(name, pa.float32()) for name in self.names]))]

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        """See `pipeline.task.BoundTask.decode`."""
        columns = [pa.array(column) for column in self.scores(encoding, outputs[0]).T]
        if len(self.names) > 1:
            columns = [pa.StructArray.from_arrays(columns, fields=list(self.fields[0].type))]
        return Decoded(columns=columns, errors={})


def _apply(function: Function, logits: Floats) -> Floats:
    scores = logits
    if function == "softmax":
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    elif function == "sigmoid":
        with np.errstate(over="ignore"):  # an infinite exponential is a score of 0
            scores = np.reciprocal(np.exp(-logits) + np.float32(1))
    return scores
