"""Trains the demo's Chinese models: a RoFormer that finds names, and a RoCBert that tells topics."""

from __future__ import annotations

import json
import random
import string
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from jobs.demo.alike import number_groups, shapes, sounds, swap
from jobs.demo.grammar import Grammar, Sample, read_rules
from jobs.demo.training import ENTITY_LABELS, MAX_TOKENS, Recipe, Trained, config_fields, fit_classifier, fit_tagger
from models.rocbert import RoCBertConfig, RoCBertForSequenceClassification, RoCBertTokenizer
from models.rocbert.tokenizer import PRONUNCIATION_FILE, SHAPE_FILE
from models.roformer import RoFormerConfig, RoFormerForTokenClassification, RoFormerTokenizerFast
from models.roformer.jieba import segments

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FULL_WIDTH = {ord(char): ord(char) + 0xFEE0 for char in string.ascii_letters + string.digits}
MOST_IN_NAMES = 0.02  # the share of its places in which a word of the vocabulary may be part of a name
EMBEDDING_SIZE = 40  # of RoFormer's words, narrower than its layers
SHAPE_SIZE, SOUND_SIZE = 16, 48  # of RoCBert's embeddings for what a character looks and sounds like


def train_zh_ner(recipe: Recipe, rng: random.Random) -> Trained:
    """A tagger of people, organisations and places."""
    grammar = name_grammar()

    def draw() -> Sample:
        sample = grammar.write(rng)
        return Sample(text=roughen(sample.text, rng), entities=sample.entities)

    samples = [draw() for _ in range(recipe.vocabulary_texts)]
    characters = vocabulary(sample.text for sample in samples)
    words = frequent_words(samples)
    with tempfile.TemporaryDirectory() as folder:
        path = write_vocabulary(Path(folder), [*characters, *words][: recipe.vocabulary])
        tokenizer = RoFormerTokenizerFast(path, model_max_length=MAX_TOKENS)
    fields = config_fields(recipe, tokenizer, ENTITY_LABELS)
    model = RoFormerForTokenClassification(
        RoFormerConfig(**fields, embedding_size=EMBEDDING_SIZE, max_position_embeddings=MAX_TOKENS)
    )
    fit_tagger(model, tokenizer, draw, recipe, rng)
    return model, tokenizer


def train_zh_topics(recipe: Recipe, rng: random.Random) -> Trained:
    """A classifier of six topics, to which it makes no difference when characters are swapped for similar ones."""
    grammars = topic_grammars()
    topics = list(grammars)

    def draw() -> tuple[str, str]:
        topic = rng.choice(topics)
        text = grammars[topic].write(rng).text
        if rng.random() < 0.9:
            text = swap(text, rng, rng.uniform(0, 0.6))
        return roughen(text, rng), topic

    tokens = vocabulary(draw()[0] for _ in range(recipe.vocabulary_texts))[: recipe.vocabulary]
    with tempfile.TemporaryDirectory() as folder:
        shape_file, sound_file = Path(folder) / SHAPE_FILE, Path(folder) / PRONUNCIATION_FILE
        shape_file.write_text(json.dumps(number_groups(tokens, shapes())), "utf-8")
        sound_file.write_text(json.dumps(number_groups(tokens, sounds())), "utf-8")
        path = write_vocabulary(Path(folder), tokens)
        tokenizer = RoCBertTokenizer(path, shape_file, sound_file, model_max_length=MAX_TOKENS)
    model = RoCBertForSequenceClassification(
        RoCBertConfig(
            **config_fields(recipe, tokenizer, topics),
            max_position_embeddings=MAX_TOKENS,
            shape_vocab_size=len(set(tokenizer.word_shape.values())),
            shape_embed_dim=SHAPE_SIZE,
            pronunciation_vocab_size=len(set(tokenizer.word_pronunciation.values())),
            pronunciation_embed_dim=SOUND_SIZE,
        )
    )
    fit_classifier(model, tokenizer, draw, topics, recipe, rng)
    return model, tokenizer


def name_grammar() -> Grammar:
    """The grammar of texts with names."""
    themes = read_rules("chinese/topics")["themes"].values()
    others = [word for theme in themes for symbol in ("who", "does", "thing", "word") for word in theme[symbol]]
    return Grammar(read_rules("chinese/names") | {"other": others} | common_rules())


def topic_grammars() -> dict[str, Grammar]:
    """Topic -> the grammar of texts about it."""
    rules = read_rules("chinese/topics")
    themes = rules["themes"]
    return {
        topic: Grammar(
            rules["frames"]
            | theme
            | {"other": [word for other in themes if other != topic for word in themes[other]["word"]]}
            | common_rules()
        )
        for topic, theme in themes.items()
    }


def common_rules() -> dict[str, list[str]]:
    """What every grammar has: common words, and any common character."""
    return {"common": read_rules("chinese/words")["common"], "any": list(sounds())}


def roughen(text: str, rng: random.Random) -> str:
    """Now and then the text in full-width forms, in other punctuation or with blanks; of the same length."""
    match rng.randrange(20):
        case 0:
            return text.translate(FULL_WIDTH)
        case 1:
            return text.translate(str.maketrans("，：！？（）", ",:!?()"))
        case 2:
            return text.replace("，", " ").replace("。", " ")
        case _:
            return text


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Special tokens, letters and digits as words and within words, common characters, other characters of `texts`."""
    ascii_ = string.ascii_lowercase + string.digits
    others = {char for text in texts for char in text.lower() if not char.isspace()}
    within = [f"##{char}" for char in ascii_]
    return [*SPECIAL_TOKENS, *ascii_, *within, *sounds(), *sorted(others - set(ascii_) - set(sounds()))]


def frequent_words(samples: Sequence[Sample]) -> list[str]:
    """jieba's words of several characters, the most frequent first.

    None that is often part of a name: names come in characters, so that new ones look like those of the training.
    """
    counts: Counter[str] = Counter()
    in_names: Counter[str] = Counter()
    for sample in samples:
        words = segments(sample.text)
        for word, end in zip(words, accumulate(map(len, words)), strict=True):
            if len(word) > 1 and not word.isascii():
                counts[word] += 1
                in_names[word] += any(one.start < end and end - len(word) < one.end for one in sample.entities)
    return [word for word, count in counts.most_common() if in_names[word] <= MOST_IN_NAMES * count]


def write_vocabulary(folder: Path, tokens: Sequence[str]) -> Path:
    """Writes `vocab.txt` and returns its path."""
    path = folder / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    return path
