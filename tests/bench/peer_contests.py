"""Which sides `peers.py` sets against each other, for each model family, and on which model and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import peer_sides
from peer_sides import BATCH_TOKENS, MAX_TOKENS, Run
from tokenizer_speed import chinese, write_vocabularies


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to do the work."""

    name: str
    settings: str
    start: Callable[..., Run]  # from a model folder and the number of CPUs
    task: str = "classify"
    exact: bool = False  # what the others of its task are compared with
    overlay: str | None = None  # where its libraries are, if they are not the product's


def _side(name: str, settings: str, start: Callable[..., Run], **options: Any) -> Side:
    """A side whose `task`, if it names one, is an option of its function too."""
    of_side = {key: options.pop(key) for key in ("exact", "overlay") if key in options}
    return Side(
        name=name, settings=settings, start=partial(start, **options), task=options.get("task", "classify"), **of_side
    )


def _transformers(overlay: str | None, *settings: tuple[str, int]) -> list[Side]:
    return [
        _side(
            f"transformers, {dtype}, batch {batch_size}",
            "text-classification pipeline",
            peer_sides.transformers_pipeline,
            dtype=dtype,
            batch_size=batch_size,
            overlay=overlay,
            exact=(dtype, batch_size) == ("float32", 32),
        )
        for dtype, batch_size in settings
    ]


_OURS = [
    _side("ours", "replica in this process, classify", peer_sides.ours, task="classify", dtype="bfloat16"),
    _side("ours, float32", "the same", peer_sides.ours, task="classify", dtype="float32"),
]
_SWEPT = [("float32", 1), ("float32", 32), ("bfloat16", 1), ("bfloat16", 8), ("bfloat16", 32), ("bfloat16", 128)]

ENGLISH = [
    *_OURS,
    _side("ours, embed", "replica in this process", peer_sides.ours, task="embed", dtype="bfloat16"),
    _side("ours on Ray", "a whole job, one worker", peer_sides.ours_on_ray, task="classify", dtype="bfloat16"),
    *_transformers(None, *_SWEPT),
    *(
        Side(
            name=f"sentence-transformers, {dtype}, batch {batch_size}",
            settings="encode, mean pooling; sorts by length",
            start=partial(peer_sides.sentence_transformers, dtype=dtype, batch_size=batch_size),
            task="embed",
            exact=(dtype, batch_size) == ("float32", 32),
            overlay="peers",
        )
        for dtype, batch_size in (("float32", 32), ("bfloat16", 8), ("bfloat16", 32), ("bfloat16", 128))
    ),
    _side(
        "Ray Data, bfloat16, batch 32", "read_parquet, the transformers pipeline in an actor, write_parquet",
        peer_sides.ray_data, dtype="bfloat16", batch_size=32,
    ),
    _side("OpenVINO, bfloat16, 1 stream", f"sorted by length, {BATCH_TOKENS} tokens a batch",
          peer_sides.openvino, dtype="bfloat16", streams=1, overlay="peers"),
    _side("OpenVINO, bfloat16, 2 streams", "the same, two batches at once on a thread each",
          peer_sides.openvino, dtype="bfloat16", streams=2, overlay="peers"),
    _side("ONNX Runtime, float32", f"fused by its optimizer; sorted by length, {BATCH_TOKENS} tokens a batch",
          peer_sides.onnxruntime, overlay="peers"),
]  # fmt: skip
CHINESE = [*_OURS, *_transformers("reference-v4", ("float32", 32), ("bfloat16", 8), ("bfloat16", 32))]

Texts = Callable[[int, int], list[str]]  # how many, and a seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is measured for a family."""

    sides: Sequence[Side]
    texts: Texts


def _english(num_texts: int, seed: int) -> list[str]:
    """Half of them under 60 words."""
    from jobs.bench import english

    batches = islice(english(), seed * 8, None)
    texts: list[str] = []
    while len(texts) < num_texts:
        texts += next(batches).to_pylist()
    return texts[:num_texts]


def _chinese(num_texts: int, seed: int, *, share: float = 1.0) -> list[str]:
    """Texts of about as many tokens as the English ones; `share` of the characters, for tokens that are shorter."""
    return [text[: max(1, round(len(text) * share))] for text in chinese(num_texts, seed)]


CONTESTS = {
    "roberta": Contest(sides=ENGLISH, texts=_english),
    "roformer": Contest(sides=CHINESE, texts=_chinese),
    "rocbert": Contest(sides=CHINESE, texts=partial(_chinese, share=0.7)),
}


def write_model(family: str, folder: Path) -> None:
    """A model of base size with random weights and six labels, and its tokenizer."""
    import torch

    from jobs.bench import write_base_model
    from jobs.spec import parse_task
    from models.rocbert import RoCBertConfig, RoCBertForSequenceClassification, RoCBertTokenizer
    from models.roformer import RoFormerConfig, RoFormerForSequenceClassification, RoFormerTokenizerFast

    torch.manual_seed(0)
    if family == "roberta":
        write_base_model(folder, parse_task({"type": "classify"}))
        return
    write_vocabularies(folder)
    tokenizer: Any
    if family == "roformer":
        tokenizer = RoFormerTokenizerFast.from_pretrained(folder)
        config: Any = RoFormerConfig(vocab_size=50000, max_position_embeddings=MAX_TOKENS, embedding_size=768)
        RoFormerForSequenceClassification(config).save_pretrained(folder)
    else:
        tokenizer = RoCBertTokenizer.from_pretrained(folder)
        RoCBertForSequenceClassification(RoCBertConfig()).save_pretrained(folder)
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(folder)
