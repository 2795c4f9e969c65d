"""The sides of `peers.py`: each loads a model folder, and gives a function from a Parquet file to another.

Heavy libraries are imported by the sides that need them. Every function that runs a side gives the seconds it took,
from the input to the closed output; loading the model is left out.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BATCH_TOKENS = 2048  # of the sides that are fed by the number of tokens
MAX_TOKENS = 512

Run = Callable[[Path, Path], float]
Rows = dict[str, Any]  # result columns


def _on_texts(label: Callable[[list[str]], Rows]) -> Run:
    """A side that takes a list of texts: reading and writing Parquet is done here, in the plainest way."""

    def run(source: Path, target: Path) -> float:
        begun = time.perf_counter()
        pq.write_table(pa.table(label(pq.read_table(source)["text"].to_pylist())), target)
        return time.perf_counter() - begun

    return run


# -- ours --------------------------------------------------------------------------------------------------------------


def ours(model: Path, *, cpus: int, task: str, dtype: str) -> Run:
    """What a worker does: a replica, in this process."""
    from jobs.spec import parse_task
    from pipeline.bench import run_units
    from pipeline.loading import load_engine
    from pipeline.options import ModelOptions, WorkerOptions

    options = parse_task({"type": task, "long_text": "truncate"})
    engine = load_engine(ModelOptions(path=str(model), dtype=dtype), options, WorkerOptions(cpus=cpus))

    def run(source: Path, target: Path) -> float:
        with tempfile.TemporaryDirectory() as folder:
            speed, _ = run_units(engine, source, Path(folder))
            pq.write_table(pq.read_table(folder), target)
        return speed.seconds

    return run


def ours_on_ray(model: Path, *, cpus: int, task: str, dtype: str) -> Run:
    """A whole job, from the moment at which the worker has loaded the model."""
    from jobs import JobSpec
    from jobs import run as run_job
    from pipeline.events import WorkerReady

    def run(source: Path, target: Path) -> float:
        ready: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            spec = JobSpec.from_dict(
                {
                    "name": "peers",
                    "input": {"url": str(source)},
                    "output": {"url": folder},
                    "model": {"path": str(model), "dtype": dtype},
                    "task": {"type": task, "long_text": "truncate"},
                    "workers": {"cpus": cpus},
                }
            )
            end = run_job(
                spec, on_event=lambda event: ready.append(time.time()) if isinstance(event, WorkerReady) else None
            )
            assert end.exit_code == 0, end
            pq.write_table(pq.read_table(folder), target)
        return end.updated_at - ready[0]

    return run


# -- transformers, sentence-transformers, Ray Data ---------------------------------------------------------------------


def _pipeline(model: Path, dtype: str, batch_size: int) -> Any:
    import torch
    from transformers import __version__, pipeline

    name = "dtype" if int(__version__.split(".")[0]) >= 5 else "torch_dtype"
    return pipeline(
        "text-classification",
        model=str(model),
        batch_size=batch_size,
        device="cpu",
        truncation=True,
        max_length=MAX_TOKENS,
        **{name: getattr(torch, dtype)},
    )


def _columns(answers: Sequence[dict[str, Any]]) -> Rows:
    return {"label": [answer["label"] for answer in answers], "score": [answer["score"] for answer in answers]}


def transformers_pipeline(model: Path, *, cpus: int, dtype: str, batch_size: int) -> Run:
    """`pipeline("text-classification", batch_size=...)` over a list of texts."""
    classify = _pipeline(model, dtype, batch_size)
    return _on_texts(lambda texts: _columns(classify(texts)))


def sentence_transformers(model: Path, *, cpus: int, dtype: str, batch_size: int) -> Run:
    """`SentenceTransformer.encode`, which sorts by length itself."""
    import torch
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    encoder.max_seq_length = MAX_TOKENS

    def encode(texts: list[str]) -> Rows:
        vectors = encoder.encode(texts, batch_size=batch_size, show_progress_bar=False)
        return {"embedding": list(np.asarray(vectors, dtype=np.float32))}

    return _on_texts(encode)


def ray_data(model: Path, *, cpus: int, dtype: str, batch_size: int) -> Run:
    """`read_parquet -> map_batches(class) -> write_parquet`, from when the actor has loaded the model."""
    import ray

    ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Classifier:
        def __init__(self, loaded: str) -> None:
            os.environ["OMP_NUM_THREADS"] = str(cpus)  # Ray sets it by the CPUs that are reserved for the actor
            import torch

            torch.set_num_threads(cpus)
            self._classify = _pipeline(model, dtype, batch_size)
            Path(loaded).write_text(str(time.time()))

        def __call__(self, batch: dict[str, Any]) -> Rows:
            return {key: np.array(values) for key, values in _columns(self._classify(list(batch["text"]))).items()}

    def run(source: Path, target: Path) -> float:
        with tempfile.TemporaryDirectory() as folder:
            loaded = Path(folder) / "loaded"
            texts = ray.data.read_parquet(str(source))
            # One CPU is left for reading and writing: with none the job would wait for ever.
            labelled = texts.map_batches(
                Classifier,
                fn_constructor_args=(str(loaded),),
                concurrency=1,
                num_cpus=max(1, cpus - 1),
                batch_size=max(256, batch_size),
            )
            labelled.write_parquet(str(Path(folder) / "out"))
            took = time.time() - float(loaded.read_text())
            pq.write_table(pq.read_table(Path(folder) / "out"), target)
        return took

    return run


# -- inference runtimes, fed with batches of like lengths --------------------------------------------------------------


def _batches(tokenizer: Any, texts: list[str]) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Batches of about `BATCH_TOKENS` tokens, padding counted, longest texts first; each with its rows' places."""
    ids = tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    order = np.argsort([-len(row) for row in ids], kind="stable")
    start = 0
    while start < len(order):
        longest = len(ids[order[start]])
        places = order[start : start + max(1, BATCH_TOKENS // longest)]
        input_ids = np.full((len(places), longest), tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for row, place in enumerate(places):
            input_ids[row, : len(ids[place])] = ids[place]
            mask[row, : len(ids[place])] = 1
        yield places, {"input_ids": input_ids, "attention_mask": mask}
        start += len(places)


def _best(logits: np.ndarray, labels: dict[int, str]) -> Rows:
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return {"label": [labels[best] for best in logits.argmax(axis=1).tolist()], "score": scores.max(axis=1)}


def openvino(model: Path, *, cpus: int, dtype: str, streams: int) -> Run:
    """A model that OpenVINO has converted from torch; with several streams, so many batches at once."""
    import openvino as ov
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    loaded = AutoModelForSequenceClassification.from_pretrained(str(model)).eval()
    example = dict(tokenizer(["an example", "of two texts"], padding=True, return_tensors="pt"))
    converted = ov.convert_model(
        loaded, example_input={name: example[name] for name in ("input_ids", "attention_mask")}
    )
    compiled = ov.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[dtype],
            "INFERENCE_NUM_THREADS": cpus,
            "NUM_STREAMS": streams,
        },
    )
    labels = loaded.config.id2label
    requests = ov.AsyncInferQueue(compiled, streams)

    def classify(texts: list[str]) -> Rows:
        logits = np.zeros((len(texts), len(labels)), dtype=np.float32)

        def take(request: Any, places: np.ndarray) -> None:
            logits[places] = request.get_output_tensor(0).data

        requests.set_callback(take)
        for places, batch in _batches(tokenizer, texts):
            requests.start_async(batch, places)
        requests.wait_all()
        return _best(logits, labels)

    return _on_texts(classify)


def onnxruntime(model: Path, *, cpus: int) -> Run:
    """A model that torch has exported and ONNX Runtime's optimizer for transformers has fused."""
    import onnxruntime as ort
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    loaded = AutoModelForSequenceClassification.from_pretrained(str(model), attn_implementation="eager").eval()
    ids = torch.randint(5, 1000, (2, 16))
    names = ["input_ids", "attention_mask"]
    with tempfile.TemporaryDirectory() as folder:
        exported, fused = f"{folder}/exported.onnx", f"{folder}/fused.onnx"
        torch.onnx.export(
            loaded,
            (ids, torch.ones_like(ids)),
            exported,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names},
            dynamo=False,  # the optimizer knows the patterns of this exporter
        )
        config = loaded.config
        optimized = optimizer.optimize_model(
            exported, model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
        )
        optimized.save_model_to_file(fused)
        options = ort.SessionOptions()
        options.intra_op_num_threads = cpus
        session = ort.InferenceSession(fused, options, providers=["CPUExecutionProvider"])
    labels = loaded.config.id2label

    def classify(texts: list[str]) -> Rows:
        logits = np.zeros((len(texts), len(labels)), dtype=np.float32)
        for places, batch in _batches(tokenizer, texts):
            logits[places] = session.run(None, batch)[0]
        return _best(logits, labels)

    return _on_texts(classify)
