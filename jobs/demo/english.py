"""Trains the demo's English models: RoBERTa with a byte-level BPE tokenizer.

Legend: B texts, S tokens of the longest, H hidden size.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from jobs.demo.grammar import TOPICS, Grammar, Sample, read_rules, theme_grammars
from jobs.demo.training import (
    ENTITY_LABELS,
    MAX_TOKENS,
    Recipe,
    Trained,
    config_fields,
    fit,
    fit_classifier,
    fit_tagger,
    pad,
)
from models.roberta import (
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    RobertaTokenizerFast,
)

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BLANKS = "   \n\t\u00a0"
TEMPERATURE = 0.07  # of the similarities, when embeddings are told apart
TOPIC_WEIGHT = 0.2  # how much of a text's embedding is about its topic, and not only about its theme


def train_topics(recipe: Recipe, rng: random.Random) -> Trained:
    """A classifier of six topics."""
    grammars = theme_grammars()
    keys = list(grammars)

    def draw() -> tuple[str, str]:
        topic, theme = rng.choice(keys)
        return distort(grammars[topic, theme].write(rng).text, rng), topic

    tokenizer = train_tokenizer((draw()[0] for _ in range(recipe.vocabulary_texts)), recipe)
    model = RobertaForSequenceClassification(small_config(recipe, tokenizer, labels=TOPICS))
    fit_classifier(model, tokenizer, draw, TOPICS, recipe, rng)
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
    fit_tagger(model, tokenizer, draw, recipe, rng)
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


def small_config(recipe: Recipe, tokenizer: RobertaTokenizerFast, labels: Sequence[str] = ()) -> RobertaConfig:
    """A small RoBERTa."""
    # RoBERTa's positions begin at 2.
    return RobertaConfig(**config_fields(recipe, tokenizer, labels), max_position_embeddings=MAX_TOKENS + 2)


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
        return RobertaTokenizerFast(vocabulary, merges, add_prefix_space=True, model_max_length=MAX_TOKENS)


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
