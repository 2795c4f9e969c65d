"""How fast this machine runs a model, against what its matrix multiplies allow, and where the rest of the time goes.

The same rows go through the model twice: from file to committed parts in a replica, as on a worker, and through the
forward pass alone, tokenized before. The machine's ceiling is measured before, between and after.
"""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.ceiling import matmul_rate
from pipeline.engine import Engine, Launched, Window
from pipeline.errors import InputNotFound
from pipeline.loading import load_engine
from pipeline.options import InputOptions, ModelOptions, OutputOptions, WorkerOptions
from pipeline.planner import input_schema, list_files, plan_units
from pipeline.reader import RawBatch
from pipeline.replica import Replica, peak_memory_bytes
from pipeline.sizing import attention_flops_per_token, flops_per_token
from pipeline.storage import Storage
from pipeline.task import Task
from pipeline.units import Unit, UnitReport
from pipeline.windows import windows

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[Any]  # [rows, values], or [rows] of labels
OnStep = Callable[[str], None]  # told what is measured next

CEILING_S = 2.0  # each of the three times
FIRST_ROWS = 64  # to begin with, when it is found out how many rows take how long
ACCURACY_ROWS = 128
_STILL_FASTER = 1.3  # times as fast as before: not warm yet
_NUM_UNITS = 3  # of the end-to-end run, at least: what overlaps between units is to be there
_ROW_GROUP_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was done in how long."""

    num_rows: int
    num_tokens: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        return self.num_rows / self.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How close the outputs of the model's forward pass are to those of the same weights in float32."""

    num_rows: int
    least_cosine: float | None  # of a row's vector or logits, or a token's scores; None where outputs are labels only
    label_agreement: float | None  # share of the rows (or tokens) with the same label; None where there are no labels


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What was measured. Rates of operations are floating-point operations a second."""

    device: str
    dtype: str
    num_threads: int  # of a forward pass on the CPU
    matmul_rates: tuple[float, ...]  # before, between and after
    flops_per_token: float  # of the products with weights
    attention_flops_per_token: float  # of those between tokens, at these lengths; no share below counts them
    first_forward_s: float  # the first rows, compilation included
    forward: Speed
    end_to_end: Speed
    stage_s: dict[str, float]  # busy seconds by stage, end to end; the stages overlap
    peak_memory_bytes: int  # of this process, up to the end of the end-to-end run
    peak_device_bytes: int  # of the GPU's memory; 0 on a CPU
    accuracy: Accuracy | None  # None where the model runs in float32 anyway

    @property
    def ceiling(self) -> float:
        """The machine's rate of matrix multiplies."""
        return max(self.matmul_rates)

    @property
    def ceiling_tokens_per_s(self) -> float:
        """What the ceiling would give if there were nothing but the products with weights."""
        return self.ceiling / self.flops_per_token

    def share_of_ceiling(self, speed: Speed) -> float:
        """The part of the ceiling that was reached."""
        return speed.tokens_per_s / self.ceiling_tokens_per_s

    @property
    def wait_s(self) -> float:
        """How long the device had nothing to do, end to end."""
        return max(0.0, self.end_to_end.seconds - self.stage_s.get("forward", 0.0))


def measure(
    model: ModelOptions,
    task: Task,
    workers: WorkerOptions,
    texts: Iterable[pa.Array],
    *,
    seconds: float,
    on_step: OnStep = logger.info,
) -> BenchResult:
    """Measures in this process, without Ray.

    Args:
        workers: what a worker gets: GPUs, CPUs, the token budget.
        texts: arrays of strings; as many rows are taken as `seconds` are enough for, or all there are.
        seconds: how long the end-to-end run should take, and the forward passes alone again.
        on_step: told what is measured next, in a few words.

    Raises:
        InputNotFound: there is no text.
        ShardmillError: model or task contradict each other, or storage fails.
        ModelError: the model cannot be loaded.
    """
    on_step("loading the model")
    engine = load_engine(model, task, workers)
    rows = _Rows(texts)
    on_step("the first forward passes")
    first_forward_s, num_rows = _calibrate(engine, rows, seconds)
    on_step("the matrix multiplies")
    rates = [_matmul_rate(engine)]
    with tempfile.TemporaryDirectory(prefix="shardmill-bench-") as folder:
        on_step(f"{num_rows:,} rows from file to Parquet")
        end_to_end, stage_s = _end_to_end(engine, rows.first(num_rows), Path(folder))
    peak_memory = peak_memory_bytes()
    peak_device = torch.cuda.max_memory_allocated(engine.device) if engine.device.type == "cuda" else 0
    rates.append(_matmul_rate(engine))
    on_step(f"{num_rows:,} rows through the model alone")
    encoded = [engine.encode(batch.texts) for batch in windows([_as_read(rows.first(num_rows))])]
    forward = _forward_alone(engine, encoded)
    rates.append(_matmul_rate(engine))
    accuracy = None
    if _dtype(engine) != torch.float32:
        on_step("the same in float32, to compare")
        exact = load_engine(model.model_copy(update={"dtype": "float32"}), task, workers)
        accuracy = _accuracy(engine, exact, rows.first(ACCURACY_ROWS), has_labels=task.head != "encoder")
    seqlens = np.concatenate([window.encoding.seqlens for window in encoded])
    config = engine.model.config
    return BenchResult(
        device=device_name(engine.device),
        dtype=str(_dtype(engine)).removeprefix("torch."),
        num_threads=torch.get_num_threads(),
        matmul_rates=tuple(rates),
        flops_per_token=flops_per_token(config),
        attention_flops_per_token=attention_flops_per_token(config, seqlens),
        first_forward_s=first_forward_s,
        forward=forward,
        end_to_end=end_to_end,
        stage_s=stage_s,
        peak_memory_bytes=peak_memory,
        peak_device_bytes=peak_device,
        accuracy=accuracy,
    )


class _Rows:
    """The first rows of a stream of texts, held so that they can be taken again."""

    def __init__(self, texts: Iterable[pa.Array]) -> None:
        self._rest = iter(texts)
        self._held: list[pa.Array] = []
        self._num_held = 0

    def first(self, num_rows: int) -> pa.Array:
        """The first rows; fewer where there are not so many."""
        while self._num_held < num_rows and (more := next(self._rest, None)) is not None:
            self._held.append(more.cast(pa.large_string()))
            self._num_held += len(more)
        if not self._num_held:
            raise InputNotFound("there is no text to measure with")
        return pa.concat_arrays(self._held).slice(0, num_rows)


def _calibrate(engine: Engine, rows: _Rows, seconds: float) -> tuple[float, int]:
    """Finds how many rows take `seconds`; gives the first pass's time, and that number.

    The first passes are slow: kernels are chosen, weights laid out, graphs compiled. So it goes on, with ever more
    rows, for as long as that makes it faster.
    """
    num_rows, first_s, best = FIRST_ROWS, 0.0, 0.0
    while True:
        texts = rows.first(num_rows)
        window = engine.encode(texts)
        if not window.encoding.num_tokens:
            raise InputNotFound(f"the first {len(texts)} rows have no text to measure with")
        took = _timed_forward(engine, window)
        first_s = first_s or took
        if len(texts) < num_rows:
            return first_s, len(texts)  # that is all there is
        rows_per_s = len(texts) / took
        if took > min(1.0, seconds / 4) and rows_per_s < _STILL_FASTER * best:
            return first_s, max(FIRST_ROWS, round(max(rows_per_s, best) * seconds))
        best = max(best, rows_per_s)
        if took < seconds / 4:
            num_rows *= 2


def _timed_forward(engine: Engine, window: Window) -> float:
    begun = time.perf_counter()
    engine.forward(window)
    return time.perf_counter() - begun


def _forward_alone(engine: Engine, windows: Sequence[Window]) -> Speed:
    begun = time.perf_counter()
    before: Launched | None = None
    for window in windows:
        launched = engine.launch(window)  # while a GPU is still at the one before
        if before is not None:
            engine.collect(before)
        before = launched
    if before is not None:
        engine.collect(before)
    return Speed(
        num_rows=sum(window.num_rows for window in windows),
        num_tokens=sum(window.encoding.num_tokens for window in windows),
        seconds=time.perf_counter() - begun,
    )


def _end_to_end(engine: Engine, texts: pa.Array, folder: Path) -> tuple[Speed, dict[str, float]]:
    corpus = folder / "corpus.parquet"
    pq.write_table(pa.table({"text": texts}), corpus, row_group_size=_ROW_GROUP_ROWS)
    return run_units(engine, corpus, folder / "out")


def run_units(engine: Engine, corpus: Path, output: Path) -> tuple[Speed, dict[str, float]]:
    """Text in a file to committed parts through a replica: how fast, and the busy seconds by stage.

    Args:
        corpus: a file with a column `text`.
        output: a folder without parts.
    """
    source = InputOptions(url=(str(corpus),))
    options = OutputOptions(url=str(output))
    files = list(list_files(source))
    schema = input_schema(files, source)
    unit_bytes = max(1, sum(file.size_bytes for file in files) // _NUM_UNITS)
    units = [unit for unit in plan_units(files, source, unit_bytes=unit_bytes) if isinstance(unit, Unit)]
    storage = Storage.open(options.url, options.storage)
    replica = Replica(engine, source=source, input_schema=schema, output=storage, options=options)
    begun = time.perf_counter()
    try:
        futures = [replica.submit(unit) for unit in units]
        reports = [future.result() for future in futures]
        took = time.perf_counter() - begun
    finally:
        replica.close()
    speed = Speed(
        num_rows=sum(report.num_rows for report in reports),
        num_tokens=sum(report.num_tokens for report in reports),
        seconds=took,
    )
    return speed, _stage_seconds(reports)


def _stage_seconds(reports: Iterable[UnitReport]) -> dict[str, float]:
    total: dict[str, float] = {}
    for report in reports:
        for stage, seconds in report.stage_s.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def _as_read(texts: pa.Array) -> RawBatch:
    return RawBatch(texts=texts, pairs=None, kept=pa.record_batch([], names=[]), errors={}, first_row=0)


def _accuracy(engine: Engine, exact: Engine, texts: pa.Array, *, has_labels: bool) -> Accuracy:
    outputs, expected = (one.forward(one.encode(texts))[0] for one in (engine, exact))
    return Accuracy(
        num_rows=len(texts),
        least_cosine=_least_cosine(outputs, expected) if outputs.ndim == 2 and outputs.shape[1] > 1 else None,
        label_agreement=float(np.mean(_labels(outputs) == _labels(expected))) if has_labels else None,
    )


def _least_cosine(vectors: Vectors, expected: Vectors) -> float:
    vectors, expected = vectors.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((vectors * expected).sum(axis=1) / lengths).min())


def _labels(outputs: Vectors) -> Vectors:
    """The best label of each row of scores; labels as they are."""
    return outputs.argmax(axis=1) if outputs.ndim == 2 else outputs


def _matmul_rate(engine: Engine) -> float:
    return matmul_rate(engine.device, _dtype(engine), seconds=CEILING_S)


def _dtype(engine: Engine) -> torch.dtype:
    dtype: torch.dtype = next(engine.model.parameters()).dtype
    return dtype


def device_name(device: torch.device) -> str:
    """What the maker calls the GPU, or this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")), "CPU")
