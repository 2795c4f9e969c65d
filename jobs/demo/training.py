"""What the trainings of the demo's models have in common.

Legend: B texts, S tokens of the longest.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from jobs.demo.grammar import Sample
from models.modeling import PreTrainedModel
from models.tokenization.batch_encoding import BatchEncoding
from models.tokenization.flat_tokenizer import FlatTokenizer

logger = logging.getLogger(__name__)

ENTITY_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
UNLABELLED = -100  # what cross entropy leaves out
MAX_TOKENS = 128  # of a text, for every model

Trained = tuple[PreTrainedModel, FlatTokenizer]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Sizes and schedule of one training."""

    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    dropout: float
    initializer_range: float
    batch_texts: int
    steps: int
    learning_rate: float = 2e-3
    vocabulary_texts: int = 20_000  # what the vocabulary is made from


def config_fields(recipe: Recipe, tokenizer: FlatTokenizer, labels: Sequence[str] = ()) -> dict[str, Any]:
    """What the configs of all families have in common; positions are not among that."""
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": 4,
        "intermediate_size": recipe.intermediate_size,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "initializer_range": recipe.initializer_range,
        "hidden_dropout_prob": recipe.dropout,
        "attention_probs_dropout_prob": 0.0,  # attention has a fast path on the CPU only without dropout
    }
    if labels:
        fields["id2label"] = dict(enumerate(labels))
        fields["label2id"] = {label: place for place, label in enumerate(labels)}
    return fields


def fit_classifier(
    model: PreTrainedModel,
    tokenizer: FlatTokenizer,
    draw: Callable[[], tuple[str, str]],
    labels: Sequence[str],
    recipe: Recipe,
    rng: random.Random,
) -> None:
    """Trains in place; `draw` gives a text and its label."""
    batches = similar_lengths(draw, lambda item: len(item[0]), recipe, rng)

    def loss() -> Tensor:
        texts, wanted = zip(*next(batches), strict=True)
        places = torch.tensor([labels.index(label) for label in wanted])  # [B]
        return cast(Tensor, model(**pad(tokenizer, texts), labels=places).loss)

    fit(model, loss, recipe)


def fit_tagger(
    model: PreTrainedModel,
    tokenizer: FlatTokenizer,
    draw: Callable[[], Sample],
    recipe: Recipe,
    rng: random.Random,
) -> None:
    """Trains in place on the entities of what `draw` gives."""
    batches = similar_lengths(draw, lambda sample: len(sample.text), recipe, rng)

    def loss() -> Tensor:
        samples = next(batches)
        batch = pad(tokenizer, [sample.text for sample in samples], offsets=True)
        offsets = batch.pop("offset_mapping").tolist()
        labels = torch.tensor([entity_labels(*pair) for pair in zip(samples, offsets, strict=True)])  # [B, S]
        return cast(Tensor, model(**batch, labels=labels).loss)

    fit(model, loss, recipe)


def fit(model: PreTrainedModel, draw_loss: Callable[[], Tensor], recipe: Recipe) -> None:
    """Trains in place, with AdamW and one cycle of the learning rate.

    Args:
        draw_loss: draws a batch and gives its loss.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps, pct_start=0.1)
    model.train()
    for number in range(1, recipe.steps + 1):
        loss = draw_loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if number % 100 == 0:
            logger.info("step %d of %d: loss %.3f", number, recipe.steps, loss.item())
    model.eval()


def similar_lengths(
    draw: Callable[[], Item], length: Callable[[Item], int], recipe: Recipe, rng: random.Random
) -> Iterator[list[Item]]:
    """Batches without end, each of items about as long as each other, so that little of it is padding."""
    size = recipe.batch_texts
    while True:
        pool = sorted((draw() for _ in range(16 * size)), key=length)
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def pad(tokenizer: FlatTokenizer, texts: Sequence[str], *, offsets: bool = False) -> BatchEncoding:
    """The texts as one batch, the longest of them cut to what the model can take."""
    return tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=offsets)


def entity_labels(sample: Sample, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """[S] the label of each token: `B-` for the first of an entity, `I-` for the others."""
    labels = []
    for start, end in offsets:
        label = "O"
        for entity in sample.entities:
            if entity.start <= start and end <= entity.end:
                label = f"{'B' if start == entity.start else 'I'}-{entity.label}"
        labels.append(ENTITY_LABELS.index(label) if start < end else UNLABELLED)
    return labels
