"""`shardmill bench`, and what it measures with where nothing else is named: a base-size model with random weights, and
text. Both are made here, so that nothing is downloaded. Random weights cost what trained ones do.
"""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from jobs import demo
from jobs.demo.grammar import theme_grammars
from jobs.demo.training import ENTITY_LABELS
from jobs.preview import read_input
from jobs.registry import AnyTask
from jobs.spec import parse_section, parse_task
from models import load_tokenizer
from models.modeling import PreTrainedModel
from models.registry import FAMILIES
from models.roberta import RobertaConfig
from pipeline.bench import BenchResult, OnStep, measure
from pipeline.options import InputOptions, ModelOptions, WorkerOptions

logger = logging.getLogger(__name__)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

MAX_TOKENS = 512
MEDIAN_WORDS = 60.0
SIGMA = 1.0  # of the logarithm of the length
MAX_WORDS = 350  # about as many tokens as the model takes
_BATCH_TEXTS = 1024
_STREAM_SENTENCES = 20_000


def bench(
    *,
    model: str | None = None,
    task: str = "embed",
    urls: Sequence[str] = (),
    text_column: str = "text",
    dtype: Dtype = "auto",
    gpus: float | None = None,
    cpus: int | None = None,
    seconds: float = 20.0,
    on_step: OnStep = logger.info,
) -> BenchResult:
    """Measures this machine, in this process.

    Args:
        model: a folder, an fsspec URL or a Hub id; None makes one with random weights, of base size.
        urls: files with text; none makes text.
        gpus: None is one if there is one.
        cpus: threads of the model; None is as many as there are.
        seconds: how long each of the two runs takes, roughly.

    Raises:
        SpecError: `task` is unknown, or a URL holds a secret.
        Others as `pipeline.bench.measure`.
    """
    chosen = parse_task({"type": task})
    texts = english()
    if urls:
        source = parse_section(InputOptions, "input", url=tuple(urls), text=text_column)
        texts = (batch.texts for batch in read_input(source))
    workers = WorkerOptions(
        gpus=float(torch.cuda.is_available()) if gpus is None else gpus, cpus=cpus or torch.get_num_threads()
    )
    with tempfile.TemporaryDirectory(prefix="shardmill-bench-") as folder:
        if model is None:
            on_step("making a model")
            write_base_model(Path(folder), chosen)
        options = parse_section(ModelOptions, "model", path=model or folder, dtype=dtype)
        return measure(options, chosen, workers, texts, seconds=seconds, on_step=on_step)


def write_base_model(folder: Path, task: AnyTask) -> None:
    """Writes a RoBERTa of base size with random weights, and the demo's tokenizer, into a folder."""
    torch.manual_seed(0)
    config = RobertaConfig(max_position_embeddings=MAX_TOKENS + 2, type_vocab_size=1, layer_norm_eps=1e-5)
    if task.type == "ner":
        config.id2label = dict(enumerate(ENTITY_LABELS))
    kind: type[PreTrainedModel] = FAMILIES["roberta"].models[task.head]
    kind(config).save_pretrained(folder)
    tokenizer = load_tokenizer(next(job.model for job in demo.jobs() if job.name == "embed"))
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(folder)


def english() -> Iterator[pa.Array]:
    """English texts without end, the same every time. Lengths are log-normal: half of the texts are under 60 words."""
    rng = random.Random(0)
    grammars = list(theme_grammars().values())
    words = " ".join(rng.choice(grammars).write(rng).text for _ in range(_STREAM_SENTENCES)).split()
    numbers = np.random.default_rng(0)
    while True:
        lengths = np.clip(numbers.lognormal(np.log(MEDIAN_WORDS), SIGMA, _BATCH_TEXTS), 1, MAX_WORDS).astype(np.int64)
        starts = numbers.integers(0, len(words) - MAX_WORDS, _BATCH_TEXTS)
        ranges = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
        yield pa.array([" ".join(words[start:stop]) for start, stop in ranges])
