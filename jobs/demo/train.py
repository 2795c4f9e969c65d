"""Trains the demo's three models: `python -m jobs.demo.train [topics|ner|embed|all] [--seed N]`.

Each is trained from nothing, tokenizer included, on texts from the grammars in `text/`; a few minutes on one core. It
replaces the model in `models/` if it reaches the bar on the bundled corpus (`scores.py`), and is refused otherwise.

Legend: B texts, S tokens of the longest, H hidden size, L labels.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from jobs.demo import DemoJob, jobs
from jobs.demo.grammar import TOPICS, Grammar, Sample, read_rules, theme_grammars
from jobs.demo.scores import score
from models.modeling import PreTrainedModel
from models.roberta import (
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    RobertaTokenizerFast,
)
from models.tokenization.batch_encoding import BatchEncoding

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
ENTITY_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
BLANKS = "   \n\t\u00a0"
UNLABELLED = -100  # what cross_entropy leaves out
TEMPERATURE = 0.07  # of the similarities, when embeddings are told apart
TOPIC_WEIGHT = 0.2  # how much of a text's embedding is about its topic, and not only about its theme

Trained = tuple[PreTrainedModel, RobertaTokenizerFast]
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
    vocabulary_texts: int = 20_000  # what the tokenizer is trained on


# A topic is a matter of words, a name of what stands around it: hence the larger vocabularies and the deeper model.
# RoBERTa's initializer_range of 0.02 is meant for widths of 768, and narrow classifiers are slow to start with it; but
# with more, embeddings soon collapse into one. Each model has about 0.7 million parameters, less than 3 MB.
RECIPES = {
    "topics": Recipe(
        vocabulary=5000,
        hidden_size=96,
        intermediate_size=256,
        layers=2,
        dropout=0.1,
        initializer_range=0.06,
        batch_texts=64,
        steps=2000,
    ),
    "ner": Recipe(
        vocabulary=2000,
        hidden_size=128,
        intermediate_size=320,
        layers=3,
        dropout=0.0,
        initializer_range=0.06,
        batch_texts=48,
        steps=3000,
    ),
    "embed": Recipe(
        vocabulary=5000,
        hidden_size=96,
        intermediate_size=256,
        layers=2,
        dropout=0.1,
        initializer_range=0.02,
        batch_texts=74,
        steps=1000,
    ),
}


def train_topics(recipe: Recipe, rng: random.Random) -> Trained:
    """A classifier of six topics."""
    grammars = theme_grammars()
    keys = list(grammars)

    def draw() -> tuple[str, str]:
        topic, theme = rng.choice(keys)
        return distort(grammars[topic, theme].write(rng).text, rng), topic

    tokenizer = train_tokenizer((draw()[0] for _ in range(recipe.vocabulary_texts)), recipe)
    model = RobertaForSequenceClassification(small_config(recipe, tokenizer, labels=TOPICS))
    batches = similar_lengths(draw, lambda item: len(item[0]), recipe, rng)

    def loss() -> Tensor:
        texts, topics = zip(*next(batches), strict=True)
        labels = torch.tensor([TOPICS.index(topic) for topic in topics])  # [B]
        return cast(Tensor, model(**pad(tokenizer, texts), labels=labels).loss)

    fit(model, loss, recipe)
    return model, tokenizer


def train_ner(recipe: Recipe, rng: random.Random) -> Trained:
    """A tagger of people, organisations and places."""
    names = Grammar(read_rules("names"))
    prose = list(theme_grammars().values())

    def draw() -> Sample:
        sample = names.write(rng)
        if rng.random() < 0.3:  # in the company of texts about anything, which have few names or none
            first, second = rng.sample([sample, rng.choice(prose).write(rng)], k=2)
            sample = first + second
        return roughen(sample, rng)

    tokenizer = train_tokenizer((draw().text for _ in range(recipe.vocabulary_texts)), recipe)
    model = RobertaForTokenClassification(small_config(recipe, tokenizer, labels=ENTITY_LABELS))
    batches = similar_lengths(draw, lambda sample: len(sample.text), recipe, rng)

    def loss() -> Tensor:
        samples = next(batches)
        batch = pad(tokenizer, [sample.text for sample in samples], offsets=True)
        offsets = batch.pop("offset_mapping").tolist()
        labels = torch.tensor([entity_labels(*pair) for pair in zip(samples, offsets, strict=True)])  # [B, S]
        return cast(Tensor, model(**batch, labels=labels).loss)

    fit(model, loss, recipe)
    return model, tokenizer


def train_embed(recipe: Recipe, rng: random.Random) -> Trained:
    """An encoder whose mean over the tokens is close for texts on one theme.

    Two texts on a theme are a pair, and the texts on the other themes in the batch are what they are told apart from.
    """
    grammars = theme_grammars()
    keys = list(grammars)

    def draw(key: tuple[str, str]) -> str:
        return distort(grammars[key].write(rng).text, rng)

    tokenizer = train_tokenizer((draw(rng.choice(keys)) for _ in range(recipe.vocabulary_texts)), recipe)
    model = RobertaModel(small_config(recipe, tokenizer), add_pooling_layer=False)

    def embed(texts: Sequence[str]) -> Tensor:
        batch = pad(tokenizer, texts)
        mask = batch["attention_mask"].unsqueeze(-1)  # [B, S, 1]
        states = model(**batch).last_hidden_state  # [B, S, H]
        return normalize((states * mask).sum(1) / mask.sum(1), dim=-1)  # [B, H]

    def loss() -> Tensor:
        drawn = rng.sample(keys, k=recipe.batch_texts // 2)
        first, second = (embed([draw(key) for key in drawn]) for _ in range(2))
        similarity = first @ second.T / TEMPERATURE  # [B / 2, B / 2]
        # Most of the weight on the text of the same theme, a little on those of the same topic.
        related = torch.tensor([[a == b for b, _ in drawn] for a, _ in drawn], dtype=torch.float32)
        wanted = (1 - TOPIC_WEIGHT) * torch.eye(len(drawn)) + TOPIC_WEIGHT * related / related.sum(1, keepdim=True)
        return (cross_entropy(similarity, wanted) + cross_entropy(similarity.T, wanted)) / 2

    fit(model, loss, recipe)
    return model, tokenizer


TRAINERS = {"topics": train_topics, "ner": train_ner, "embed": train_embed}


def small_config(recipe: Recipe, tokenizer: RobertaTokenizerFast, labels: Sequence[str] = ()) -> RobertaConfig:
    """A small RoBERTa, for sequences of up to 128 tokens."""
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=130,  # RoBERTa's positions begin at 2
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=recipe.initializer_range,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=0.0,  # attention has a fast path on the CPU only without dropout
    )
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
    return config


def train_tokenizer(texts: Iterator[str], recipe: Recipe) -> RobertaTokenizerFast:
    """A byte-level BPE tokenizer with a vocabulary made from `texts`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocabulary,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = backend.model.save(folder)
        return RobertaTokenizerFast(vocabulary, merges, add_prefix_space=True, model_max_length=128)


def pad(tokenizer: RobertaTokenizerFast, texts: Sequence[str], *, offsets: bool = False) -> BatchEncoding:
    """The texts as one batch, the longest of them cut to what the model can take."""
    return tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=offsets)


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


def distort(text: str, rng: random.Random) -> str:
    """Now and then the text in upper case, in lower case, or without some of its words."""
    match rng.randrange(20):
        case 0 | 7:
            return text.upper()
        case 1:
            return text.lower()
        case 2 | 3 | 4 | 5 | 6:
            words = text.split()
            return " ".join(word for word in words if rng.random() < 0.8) or text
        case _:
            return text


def roughen(sample: Sample, rng: random.Random) -> Sample:
    """Now and then the sample in upper case, or with other blanks; its entities stay where they are."""
    text = sample.text
    if rng.randrange(15) == 0 and len(text.upper()) == len(text):
        text = text.upper()
    if rng.randrange(15) == 0:
        text = "".join(rng.choice(BLANKS) if one == " " else one for one in text)
    return Sample(text=text, entities=sample.entities)


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


def save(job: DemoJob, model: PreTrainedModel, tokenizer: RobertaTokenizerFast) -> None:
    """Puts the model in the place of the bundled one."""
    shutil.rmtree(job.model, ignore_errors=True)
    model.save_pretrained(job.model)
    tokenizer.save_pretrained(job.model)
    if job.name == "embed":
        write_pooling(job.model, model.config.hidden_size)


def write_pooling(folder: Path, hidden_size: int) -> None:
    """Says that an embedding is the mean over the tokens, in the files of sentence-transformers."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jobs.demo.train", description="Trains the demo's models.")
    parser.add_argument("model", nargs="?", default="all", choices=[*TRAINERS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # sums come out the same on any machine with the same kernels

    for job in jobs():
        if arguments.model not in (job.name, "all"):
            continue
        torch.manual_seed(arguments.seed)
        model, tokenizer = TRAINERS[job.name](RECIPES[job.name], random.Random(arguments.seed))
        result = score(job, (model, tokenizer))
        if result.value < result.bar:
            parser.exit(1, f"{job.name}: {result}: not written; try another seed or more text\n")
        save(job, model, tokenizer)
        logger.info("%s: %s, written to %s", job.name, result, job.model)


if __name__ == "__main__":
    main()
