"""A window with bad rows: those become errors, every other row has its result, and what is no row's fault is raised."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from models.batch import TokenBatch
from models.errors import ModelError
from models.tokenization.flat import FlatEncoding
from pipeline import isolate
from pipeline.engine import EMPTY_TEXT, NULL_TEXT, Engine
from pipeline.errors import DeviceLost, StorageError
from pipeline.reader import RawBatch
from pipeline.task import Decoded
from tests.support.number_engine import NumberTokenizer, SumTask

STRANGE = 99  # a number that one of the stages cannot stand


class FussyTokenizer(NumberTokenizer):
    def encode_flat(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **options: Any) -> FlatEncoding:
        if any(str(STRANGE) in text for text in texts):
            raise IndexError("99 is not in the vocabulary")
        return super().encode_flat(texts, pairs, **options)


@dataclasses.dataclass(kw_only=True)
class FussyTask(SumTask):
    stage: str = "forward"
    error: Exception = dataclasses.field(default_factory=lambda: RuntimeError("99 is out of range"))

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        if self.stage == "forward" and (batch.input_ids == STRANGE).any():
            raise self.error
        return super().forward(model, batch)

    def decode(self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[Any, ...]) -> Decoded:
        if self.stage == "decode" and any(str(STRANGE) in text for text in texts):
            raise self.error
        return super().decode(texts, encoding, outputs)


def annotate(task: SumTask, tokenizer: NumberTokenizer, batch: RawBatch) -> list[dict[str, Any]]:
    engine = Engine(nn.Linear(1, 1), tokenizer, task, token_budget=16)
    marked, window = isolate.encode(engine, batch)
    marked, window, launched = isolate.launch(engine, marked, window)
    outputs = isolate.collect(engine, launched)
    rows: list[dict[str, Any]] = isolate.decode(engine, marked, window, outputs).columns.to_pylist()
    return rows


def batch_of(texts: list[str | None], errors: dict[int, str] | None = None) -> RawBatch:
    kept = pa.record_batch({"id": range(len(texts))})
    return RawBatch(texts=pa.array(texts, pa.large_string()), kept=kept, errors=errors or {})


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("tokenize", "IndexError in tokenize"),
        ("forward", "RuntimeError in forward"),
        ("decode", "RuntimeError in decode"),
    ],
)
@pytest.mark.parametrize("strange", [[0], [39], [7, 8, 30], list(range(11, 20))], ids=str)
def test_bad_rows_cost_themselves_alone(per_token: bool, stage: str, reason: str, strange: list[int]) -> None:
    # Some texts are longer than the model, and in several sequences; some have none; one was bad when it was read.
    texts: list[str | None] = [" ".join(["1"] * (row % 7)) for row in range(40)]
    texts[3] = None
    for row in strange:
        texts[row] = f"2 {STRANGE} 1 1 1"
    expected = [{"sum": float(row % 7), "error": None} for row in range(40)]
    for row in (0, 7, 14, 21, 28, 35):
        expected[row] = {"sum": None, "error": EMPTY_TEXT}
    expected[3] = {"sum": None, "error": NULL_TEXT}
    expected[5] = {"sum": None, "error": "not JSON"}
    for row in strange:
        expected[row] = {"sum": None, "error": reason}

    tokenizer = FussyTokenizer() if stage == "tokenize" else NumberTokenizer()
    task = FussyTask(stage=stage, per_token=per_token)
    assert annotate(task, tokenizer, batch_of(texts, {5: "not JSON"})) == expected


@pytest.mark.parametrize("texts", [[f"{STRANGE}"], [f"{STRANGE}", "1"], [None, f"{STRANGE}"]])
@pytest.mark.parametrize("stage", ["tokenize", "forward", "decode"])
def test_a_window_of_hardly_more_than_the_bad_row(texts: list[str | None], stage: str) -> None:
    tokenizer = FussyTokenizer() if stage == "tokenize" else NumberTokenizer()
    rows = annotate(FussyTask(stage=stage), tokenizer, batch_of(texts))
    assert [bool(row["error"]) for row in rows] == [text is None or str(STRANGE) in text for text in texts]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError()], ids=lambda error: type(error).__name__)
def test_a_text_for_which_there_is_no_memory_is_left_out(error: Exception) -> None:
    task = SumTask(most_tokens=3, too_many=error)
    rows = annotate(task, NumberTokenizer(), batch_of(["1 2 3", "1 1 1 1", "5", "6"]))
    assert [row["sum"] for row in rows] == [6, None, 5, 6]
    assert rows[1]["error"] == f"{type(error).__name__} in forward"


def test_too_many_bad_rows_are_no_fault_of_the_rows() -> None:
    task = FussyTask()
    with pytest.raises(RuntimeError, match="out of range"):
        annotate(task, NumberTokenizer(), batch_of([str(STRANGE)] * 11 + ["1"] * 29))
    with pytest.raises(RuntimeError, match="out of range"):
        annotate(task, NumberTokenizer(), batch_of([str(STRANGE)] * (isolate.MOST_BAD_ROWS + 1) + ["1"] * 1000))


def test_what_happens_once_leaves_no_trace() -> None:
    class Once(SumTask):
        def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
            if not self.batches:
                self.batches.append(0)
                raise RuntimeError("a cosmic ray")
            return super().forward(model, batch)

    rows = annotate(Once(), NumberTokenizer(), batch_of(["1", "2", "3"]))
    assert rows == [{"sum": value, "error": None} for value in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("error", [StorageError("full"), ModelError("no such head")], ids=lambda e: type(e).__name__)
def test_errors_of_the_run_are_not_searched_for(error: Exception) -> None:
    with pytest.raises(type(error)):
        annotate(FussyTask(error=error), NumberTokenizer(), batch_of(["1", f"{STRANGE}", "1"]))


def test_a_device_that_is_lost_is_told_apart() -> None:
    error = torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with ...")
    with pytest.raises(DeviceLost, match=r"device-side assert triggered$"):
        annotate(FussyTask(error=error), NumberTokenizer(), batch_of(["1", f"{STRANGE}", "1"]))
