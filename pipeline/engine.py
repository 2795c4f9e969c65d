"""One loaded model at work on windows of text: tokenize, forward, decode. No storage, no Ray, no threads of its own.

Legend: R rows in a window, M different texts in them, N token sequences (windows of long texts included), T tokens.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from models.batch import TokenBatch
from models.inference import compile_blocks, mixes_lengths
from models.tokenization.flat import FlatEncoding
from pipeline.batching import BatchPlan, plan_batches, ranges
from pipeline.device import Moment, to_host
from pipeline.task import BoundTask
from pipeline.token_budget import TokenBudget

logger = logging.getLogger(__name__)

ERROR_FIELD = pa.field("error", pa.string())
NULL_TEXT = "text is null"
EMPTY_TEXT = "text is empty"
NOT_FINITE = "the model gave a result that is not finite"

# A GPU's work before its model is compiled: what that takes, some ten seconds, is lost on a job that ends sooner.
COMPILE_AFTER_S = 60.0

Outputs = tuple[npt.NDArray[np.generic], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of rows after tokenizing."""

    text_of_row: npt.NDArray[np.int64]  # [R] which of the texts a row has; -1: none
    first_row: npt.NDArray[np.int64]  # [M] a row that has the text
    texts: Sequence[str]  # [M], no two rows' worth the same
    encoding: FlatEncoding
    errors: dict[int, str]  # row -> why it has no result
    num_empty: int  # rows whose text is null or blank; they are among `errors`

    @property
    def num_rows(self) -> int:
        return len(self.text_of_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A window that was sent through the model; a GPU may still be at it."""

    num_tokens: int
    token_budget: int  # of its passes
    begun: Moment
    ended: Moment
    outputs: tuple[Tensor, ...]  # on the host once `ended` has come, in the order of the batches
    place: npt.NDArray[np.int64]  # where each of their rows belongs

    @property
    def seconds(self) -> float:
        """How long the device took. `ended` has come."""
        return self.ended.since(self.begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A window's result columns, in the order of its rows."""

    columns: pa.RecordBatch  # the task's fields and `error`, R rows
    num_empty: int
    num_errors: int  # other than being empty
    num_long: int  # texts longer than the model, cut into windows or truncated; equal ones count once
    num_tokens: int  # that the model computed


class Engine:
    """A model, its tokenizer and its task.

    `encode`, `launch`, and `collect` with `decode` may run in a thread each, `launch` a few windows ahead of `collect`.
    """

    def __init__(self, model: Any, tokenizer: Any, task: BoundTask, *, token_budget: int | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self.device: torch.device = next(model.parameters()).device
        self.budget = TokenBudget(self.device.type, most=token_budget)
        self._mixes_lengths = mixes_lengths(model)
        self.schema = pa.schema([*task.fields, ERROR_FIELD])
        self.num_batches = 0  # computed so far: a sign of life in a long window
        self._compile_after_s = COMPILE_AFTER_S if self.device.type == "cuda" else math.inf

    def annotate(self, texts: pa.Array, pairs: pa.Array | None = None) -> pa.RecordBatch:
        """Gives the result columns and `error` for each text, in order."""
        window = self.encode(texts, pairs)
        return self.decode(window, self.forward(window)).columns

    def encode(self, texts: pa.Array, pairs: pa.Array | None = None, *, errors: dict[int, str] | None = None) -> Window:
        """Tokenizes the rows that have text, equal ones once.

        Args:
            texts: R strings.
            pairs: R strings, for models that take pairs; a null second text counts as an empty one.
            errors: rows that are known to be bad already, and why; they are left out.
        """
        reasons = dict(errors or {})
        blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
        num_empty = 0
        for row in np.flatnonzero(pc.fill_null(blank, True).to_numpy(zero_copy_only=False)).tolist():
            if row not in reasons:
                reasons[row] = EMPTY_TEXT if texts[row].is_valid else NULL_TEXT
                num_empty += 1
        has_text = np.ones(len(texts), dtype=bool)
        has_text[list(reasons)] = False
        text_of_row = np.full(len(texts), -1, dtype=np.int64)
        first_row, text_of_row[has_text] = _distinct(texts, pairs, np.flatnonzero(has_text))
        chosen: list[str] = texts.take(pa.array(first_row)).to_pylist()
        seconds = None if pairs is None else pc.fill_null(pairs.take(pa.array(first_row)), "").to_pylist()
        plan = self.task.encoding
        encoding = self.tokenizer.encode_flat(
            [plan.prefix + text for text in chosen] if plan.prefix else chosen,
            seconds,
            max_length=plan.max_length,
            stride=plan.stride,
            overflow=plan.overflow,
            offsets=plan.offsets,
        )
        return Window(
            text_of_row=text_of_row,
            first_row=first_row,
            texts=chosen,
            encoding=encoding,
            errors=reasons,
            num_empty=num_empty,
        )

    def forward(self, window: Window) -> Outputs:
        """Runs the model over a window; outputs are in the order of the window's encoding."""
        return self.collect(self.launch(window))

    @torch.inference_mode()
    def launch(self, window: Window) -> Launched:
        """Sends a window through the model, batch by batch. A GPU goes on with it by itself; a CPU is done then.

        Should the device run out of memory, the token budget is lowered for good and the window begun again.
        """
        encoding = window.encoding
        while True:
            token_budget = self.budget.tokens
            plan = plan_batches(encoding.cu_seqlens, token_budget, by_length=not self._mixes_lengths)
            try:
                return self._launch(encoding, plan, token_budget)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or token_budget <= plan.seqlens.max():
                    raise  # it is something else, or one text alone is too much
            # Not before: as long as the error was at hand, so was the memory of the pass that failed.
            self.budget.lower(int(plan.seqlens.max()))
            torch.cuda.empty_cache()

    def collect(self, launched: Launched) -> Outputs:
        """Waits for a launched window; its outputs, in the order of the window's encoding."""
        launched.ended.wait()
        self._compile_after_s -= launched.seconds
        self.budget.record(launched.num_tokens, launched.seconds, token_budget=launched.token_budget)
        return tuple(_restore(output.numpy(), launched.place) for output in launched.outputs)

    def decode(self, window: Window, outputs: Outputs) -> Results:
        """Turns outputs into columns, and puts them in the places of the rows that they belong to."""
        encoding, errors = window.encoding, dict(window.errors)
        if outputs:
            decoded = self.task.decode(window.texts, encoding, outputs)
            failed = decoded.errors | dict.fromkeys(self._not_finite(encoding, outputs), NOT_FINITE)
            rows_of_failed = np.flatnonzero(np.isin(window.text_of_row, list(failed)))
            errors |= {row: failed[int(window.text_of_row[row])] for row in rows_of_failed.tolist()}
            source = window.text_of_row.copy()
            source[rows_of_failed] = -1
            places = pa.array(source, mask=source < 0)  # taking a null place gives a null
            columns = [column.take(places) for column in decoded.columns]
        else:
            columns = [pa.nulls(window.num_rows, field.type) for field in self.task.fields]
        reasons = pa.array([errors.get(row) for row in range(window.num_rows)], ERROR_FIELD.type)
        num_in_windows = int(np.count_nonzero(np.bincount(encoding.text_index) > 1))
        return Results(
            columns=pa.RecordBatch.from_arrays([*columns, reasons], schema=self.schema),
            num_empty=window.num_empty,
            num_errors=len(errors) - window.num_empty,
            num_long=num_in_windows + encoding.num_truncated,
            num_tokens=encoding.num_tokens,
        )

    def pick(self, window: Window, outputs: Outputs, rest: Window) -> Outputs:
        """Of a window's outputs those of the rows that `rest` has: the same window, with more rows left out."""
        if not len(rest.first_row):
            return ()
        encoding = window.encoding
        texts = window.text_of_row[rest.first_row]
        starts = np.searchsorted(encoding.text_index, texts)
        chosen = ranges(starts, np.searchsorted(encoding.text_index, texts, side="right") - starts)
        if self.task.per_token:
            chosen = ranges(encoding.cu_seqlens[chosen], encoding.seqlens[chosen])
        return tuple(output[chosen] for output in outputs)

    def _launch(self, encoding: FlatEncoding, plan: BatchPlan, token_budget: int) -> Launched:
        batches = self._batches(encoding, plan)
        if self._compile_after_s <= 0 and batches:
            self._compile_after_s = math.inf
            compile_blocks(self.model, batches[0])
        begun = Moment(self.device)
        parts = zip(*(self._compute(batch) for batch in batches), strict=True)
        return Launched(
            num_tokens=encoding.num_tokens,
            token_budget=token_budget,
            begun=begun,
            outputs=tuple(to_host(torch.cat(tensors)) for tensors in parts),
            ended=Moment(self.device),
            place=plan.token_order if self.task.per_token else plan.order,
        )

    def _compute(self, batch: TokenBatch) -> tuple[Tensor, ...]:
        self.num_batches += 1
        return self.task.forward(self.model, batch)

    def _batches(self, encoding: FlatEncoding, plan: BatchPlan) -> Sequence[TokenBatch]:
        def gather(values: npt.NDArray[np.integer[Any]]) -> Tensor:
            return torch.from_numpy(values[plan.token_order])

        ids = gather(encoding.input_ids)
        token_types = None if encoding.token_type_ids is None else gather(encoding.token_type_ids)
        extras = {name: gather(values) for name, values in encoding.extras.items()}
        return [
            TokenBatch.from_flat(
                ids[tokens],
                plan.seqlens[sequences].tolist(),
                token_type_ids=None if token_types is None else token_types[tokens],
                extras={name: values[tokens] for name, values in extras.items()},
                device=self.device,
            )
            for sequences, tokens in plan.batches()
        ]

    def _not_finite(self, encoding: FlatEncoding, outputs: Outputs) -> set[int]:
        """Texts with NaN or infinity anywhere in their outputs."""
        bad: set[int] = set()
        for output in outputs:
            if output.dtype.kind != "f":
                continue
            finite = np.isfinite(output)
            if finite.all():
                continue
            places = np.flatnonzero(~finite.reshape(len(output), -1).all(axis=1))
            if self.task.per_token:
                places = np.searchsorted(encoding.cu_seqlens, places, side="right") - 1
            bad.update(encoding.text_index[places].tolist())
        return bad


def _distinct(
    texts: pa.Array, pairs: pa.Array | None, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each different text (or pair) of these rows the first row that has it, and for each row which one it has."""
    codes = np.zeros(len(rows), dtype=np.int64)
    for column in (texts,) if pairs is None else (texts, pc.fill_null(pairs, "")):
        encoded = column.take(pa.array(rows)).dictionary_encode()
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    _, first, text = np.unique(codes, return_index=True, return_inverse=True)
    return rows[first], text


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)


def _restore(values: npt.NDArray[np.generic], place: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
    """Puts rows that are in batch order back into the window's order."""
    restored = np.empty_like(values)
    restored[place] = values
    return restored
