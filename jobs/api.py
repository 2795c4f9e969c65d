"""What there is from Python: run a job, or label a few texts in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Literal

import pyarrow as pa
import torch

from jobs.overrides import storage_options
from jobs.registry import AnyTask
from jobs.spec import JobSpec, parse_section, parse_task
from pipeline.engine import Engine
from pipeline.errors import SpecError
from pipeline.events import OnEvent, RunSummary
from pipeline.loading import load_engine
from pipeline.options import ModelOptions, WorkerOptions
from pipeline.status import read_spec
from pipeline.storage import Storage
from pipeline.windows import WINDOW_ROWS

Text = str | None


def run(spec: JobSpec, *, on_event: OnEvent | None = None) -> RunSummary:
    """Does what is left of a job: all of it, the rest of it, or nothing. What `shardmill run` does.

    Args:
        spec: the job.
        on_event: told of everything that happens, on this thread.

    Returns:
        How it ended; `exit_code` is what the command would end with.

    Raises:
        ShardmillError: it could not begin, or could not go on; its class carries the exit code.
        ModelError: the model cannot be loaded.
    """
    return _run(spec, on_event)


def retry(output: str, overrides: Iterable[str] = (), *, on_event: OnEvent | None = None) -> RunSummary:
    """Does what is in quarantine, and nothing else: units, single rows, and files that could not be read.

    What passes now leaves quarantine; what fails again stays there, with the new reason. What `shardmill retry` does.

    Args:
        output: a job's output folder. It holds the job, but no secrets.
        overrides: `a.b=value` each, put in place of what the job says: `input.storage.key=...`, `limits.attempts=5`.
        on_event: as for `run`.

    Returns, Raises: as `run`; and InputNotFound: the folder is none of ours.
    """
    settings = list(overrides)
    storage = Storage.open(output, storage_options(settings, "output"))
    return _run(JobSpec.from_kept(read_spec(storage), output_url=output, overrides=settings), on_event, retry=True)


def _run(spec: JobSpec, on_event: OnEvent | None, *, retry: bool = False) -> RunSummary:
    from pipeline.run import run as run_pipeline  # here, for it brings in Ray, which `annotate` does not need

    return run_pipeline(
        name=spec.name,
        source=spec.input,
        output=spec.output,
        model=spec.model,
        task=spec.task,
        workers=spec.workers,
        limits=spec.limits,
        job=spec.identity(),
        on_event=on_event,
        spec=spec.kept(),
        retry=retry,
    )


def annotate(
    texts: Iterable[Text] | Iterable[tuple[Text, Text]],
    *,
    model: str | PathLike[str] | tuple[Any, Any],
    task: Mapping[str, Any] | AnyTask,
    revision: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
) -> pa.Table:
    """Labels texts in this process, without Ray: on the GPU if there is one.

    Args:
        texts: texts, or pairs of texts; None and blank ones are allowed, and get no result.
        model: a folder, an fsspec URL or a Hub id; or a loaded model with its tokenizer, which is used as it is.
        task: the `task:` part of a job spec, as in `{"type": "ner", "aggregation": "first"}`.
        revision: of a model on the Hub.
        dtype: of a model that is loaded here: float32 is exact, "auto" is what a job computes in.

    Returns:
        One row a text, in order: the job's output columns and `error`.

    Raises:
        SpecError: an option of the task is wrong, or the model cannot do it.
        ModelError: the model cannot be loaded.
    """
    chosen = parse_task(task) if isinstance(task, Mapping) else task
    firsts, seconds = _columns(texts)
    if seconds is not None and not chosen.takes_pairs:
        raise SpecError(f"task: {chosen.type} takes single texts, not pairs")
    if isinstance(model, tuple):
        loaded, tokenizer = model
        engine = Engine(loaded, tokenizer, chosen.bind(loaded.config, tokenizer, None))
    else:
        engine = load_engine(
            parse_section(ModelOptions, "model", path=fspath(model), revision=revision, dtype=dtype),
            chosen,
            # All of this process's threads, as many as there were before.
            WorkerOptions(gpus=1 if torch.cuda.is_available() else 0, cpus=torch.get_num_threads()),
        )
    batches = [
        engine.annotate(
            firsts.slice(start, WINDOW_ROWS), None if seconds is None else seconds.slice(start, WINDOW_ROWS)
        )
        for start in range(0, len(firsts), WINDOW_ROWS)
    ]
    return pa.Table.from_batches(batches, schema=engine.schema)


def _columns(texts: Iterable[Text] | Iterable[tuple[Text, Text]]) -> tuple[pa.Array, pa.Array | None]:
    if isinstance(texts, str):
        raise ValueError("texts: expected a list of texts, found a single one")
    rows = list(texts)
    if not any(isinstance(row, tuple) for row in rows):
        return _column(rows), None
    if not all(isinstance(row, tuple) and len(row) == 2 for row in rows):
        raise ValueError("texts: expected texts, or pairs of two texts each, and not both")
    firsts, seconds = zip(*rows, strict=True)
    return _column(firsts), _column(seconds)


def _column(texts: Sequence[Any]) -> pa.Array:
    others = {type(text).__name__ for text in texts if not isinstance(text, str | None)}
    if others:
        raise ValueError(f"texts: expected texts, or pairs (tuples) of them, found {', '.join(sorted(others))}")
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        raise ValueError("texts: not valid Unicode: one of them holds half a surrogate pair") from None
