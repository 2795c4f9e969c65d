"""From a job's options to a loaded engine: fetch the model's files, load it, bind the task to it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
import xxhash

import models
from models.errors import CheckpointError, ModelNotFound
from models.hub import Source
from models.inference import optimize_for_inference, tune_memory
from pipeline.engine import Engine
from pipeline.options import InputOptions, ModelOptions, OutputOptions, WorkerOptions
from pipeline.replica import Replica
from pipeline.storage import Storage
from pipeline.task import Task

logger = logging.getLogger(__name__)

# What tasks read besides config and tokenizer: how a sentence-transformers model pools its states.
TASK_FILES = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")
_EDGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRecipe:
    """All that a worker needs to make its replica: a small picklable value, without weights."""

    model: ModelOptions
    task: Task
    workers: WorkerOptions
    source: InputOptions
    input_schema: pa.Schema
    options: OutputOptions

    def make(self) -> Replica:
        """Loads the model on this process's device and starts the replica's stages."""
        return Replica(
            load_engine(self.model, self.task, self.workers),
            source=self.source,
            input_schema=self.input_schema,
            output=Storage.open(self.options.url, self.options.storage),
            options=self.options,
        )


def load_engine(model: ModelOptions, task: Task, workers: WorkerOptions) -> Engine:
    """Loads model and tokenizer, and binds the task to them.

    Runs on CUDA if the worker was given a GPU, else on as many CPU threads as it was given CPUs.
    """
    files = ModelFiles.of(model)
    device = "cuda" if workers.gpus and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(max(1, round(workers.cpus)))
        tune_memory()
    loaded = models.load_model(
        files.path, task=task.head, revision=files.revision, dtype=_dtype(model.dtype, device), device=device
    )
    if loaded.new_parameters:
        # A random head labels at random, and nobody would see it in the output.
        raise CheckpointError(
            f"{model.path}: expected a model trained for {task.head}, found no {', '.join(loaded.new_parameters[:4])} "
            f"in its weights. Use a checkpoint that was fine-tuned for this task."
        )
    optimize_for_inference(loaded)
    tokenizer = models.load_tokenizer(files.path, revision=files.revision)
    bound = task.bind(loaded.config, tokenizer, files.folder)
    return Engine(loaded, tokenizer, bound, token_budget=workers.token_budget)


def _dtype(asked: str, device: str) -> str:
    """What "auto" means for a job: on a CPU bfloat16 where it has instructions for it, else as `load_model` does."""
    in_bfloat16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if asked == "auto" and device == "cpu" and in_bfloat16 else asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Where a model's files are, once those that lie at an fsspec URL have been copied here."""

    path: str  # what `models.load_model` takes: a folder or a Hub id
    revision: str | None
    folder: Path  # holds config.json and the files that tasks read; of a Hub id the cached snapshot

    @classmethod
    def of(cls, model: ModelOptions) -> ModelFiles:
        """Copies an fsspec URL's folder, or fetches what tasks read of a Hub repository.

        Raises:
            ModelError: there is no such folder or repository, or no config.json in it.
            StorageError: the URL cannot be read.
        """
        if "://" in model.path:
            folder = _copy(model)
            return cls(path=str(folder), revision=None, folder=folder)
        source = Source(name=model.path, revision=model.revision)
        for name in TASK_FILES:
            source.find(name)
        return cls(path=model.path, revision=model.revision, folder=source.require("config.json").parent)

    def fingerprint(self) -> str:
        """Differs when the model does: of a Hub repository the commit, else a digest of the files.

        Of files beyond two megabytes the digest takes the size and both ends.
        """
        if not Path(self.path).is_dir():
            return f"{self.path}@{self.folder.name}"  # the cache names snapshots by commit
        digest = xxhash.xxh3_128()
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(self.folder).as_posix()} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_EDGE_BYTES))
                if size > _EDGE_BYTES:
                    file.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
                    digest.update(file.read(_EDGE_BYTES))
        return digest.hexdigest()


def _copy(model: ModelOptions) -> Path:
    """Copies the folder at an fsspec URL into the temporary directory, under a name that says what was copied.

    So the workers of a machine share one copy, and a changed file at the URL makes another.
    """
    storage = Storage.open(model.path, model.storage)
    entries = [entry for entry in storage.list() if not entry.path.startswith(".")]
    if not entries:
        raise ModelNotFound(f"{storage.url}: expected a folder with config.json and weights, found nothing")
    listing = "\n".join([storage.url, *(f"{entry.path} {entry.fingerprint}" for entry in entries)])
    digest = xxhash.xxh3_64_hexdigest(listing.encode())
    target = Path(tempfile.gettempdir()) / f"shardmill-models-{os.getuid()}" / digest
    if target.exists():
        return target
    target.parent.mkdir(mode=0o700, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for entry in entries:
            storage.fetch(entry.path, staged / entry.path)
        staged.rename(target)
    except OSError:
        if not target.exists():  # otherwise another worker of this machine was first
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    logger.info("copied the model from %s (%d files)", storage.url, len(entries))
    return target
