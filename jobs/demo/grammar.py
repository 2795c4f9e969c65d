"""Text from a grammar: what the demo's models are trained on.

A grammar maps a symbol to its alternatives, and an alternative is text with `<symbol>` in it. `<Symbol>` is the same
with its first letter in upper case. What an upper-case symbol makes is marked as an entity: `<PER>`, or `<PER_FAMILY>`
for another rule of the same label.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

TOPICS = ("cooking", "finance", "health", "sports", "technology", "travel")

_SLOT = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An entity: `text[start:end]`, in code points."""

    label: str
    start: int
    end: int


@dataclass(slots=True)
class Sample:
    """A text that grows while the grammar is expanded, and the entities in it."""

    text: str = ""
    entities: list[Span] = field(default_factory=list)

    def __add__(self, other: Sample) -> Sample:
        shift = len(self.text) + 1
        moved = [Span(label=one.label, start=one.start + shift, end=one.end + shift) for one in other.entities]
        return Sample(text=f"{self.text} {other.text}", entities=self.entities + moved)


class Grammar:
    """A context-free grammar that writes random texts.

    Args:
        rules: symbol -> alternatives, equally likely.

    Raises:
        ValueError: a slot names no symbol.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        # Split at slots: literal text at even places, the names of symbols at odd ones.
        self._rules = {symbol: [_SLOT.split(one) for one in alternatives] for symbol, alternatives in rules.items()}
        for symbol, alternatives in self._rules.items():
            for name in {name for parts in alternatives for name in parts[1::2]}:
                if self._symbol(name) not in self._rules:
                    raise ValueError(f"the grammar's {symbol!r} uses <{name}>, which has no rule")

    def write(self, rng: random.Random, start: str = "text") -> Sample:
        """A random text. The same state of `rng` gives the same text."""
        sample = Sample()
        self._expand(start, rng, sample)
        sample.text = sample.text[:1].upper() + sample.text[1:]
        return sample

    def _symbol(self, name: str) -> str:
        return name if name.isupper() else name[0].lower() + name[1:]

    def _expand(self, name: str, rng: random.Random, sample: Sample) -> None:
        start = len(sample.text)
        parts = rng.choice(self._rules[self._symbol(name)])
        for place, part in enumerate(parts):
            if place % 2:
                self._expand(part, rng, sample)
            else:
                sample.text += part
        if name.isupper():
            sample.entities.append(Span(label=name.split("_")[0], start=start, end=len(sample.text)))
        elif name[0].isupper():
            sample.text = sample.text[:start] + sample.text[start : start + 1].upper() + sample.text[start + 1 :]


def read_rules(name: str) -> dict[str, Any]:
    """The bundled YAML file `text/NAME.yaml`."""
    path = resources.files(__package__) / "text" / f"{name}.yaml"
    # BaseLoader reads every scalar as text: `no` is a word here, and not false.
    rules: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return rules


def theme_grammars() -> dict[tuple[str, str], Grammar]:
    """(topic, theme) -> the grammar of texts about it."""
    frames = read_rules("prose")
    themes = {topic: read_rules(f"themes/{topic}") for topic in TOPICS}
    words = {topic: [word for theme in themes[topic].values() for word in theme["words"]] for topic in TOPICS}
    others = {topic: [word for other in TOPICS if other != topic for word in words[other]] for topic in TOPICS}
    return {
        (topic, theme): Grammar(frames | rules | {"other": others[topic]})
        for topic in TOPICS
        for theme, rules in themes[topic].items()
    }
