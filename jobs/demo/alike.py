"""Characters that look or sound alike: RoCBert's two tables, and texts with such characters swapped."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from jobs.demo.grammar import read_rules


@cache
def sounds() -> Mapping[str, str]:
    """Character -> all the characters that are read as it is, whatever the tone; of 3755 common characters."""
    return _group_of(read_rules("chinese/sounds").values())


@cache
def shapes() -> Mapping[str, str]:
    """Character -> all the characters that look like it, itself included; only of those that have any."""
    return _group_of(read_rules("chinese/shapes")["groups"])


def number_groups(tokens: Sequence[str], group_of: Mapping[str, str]) -> dict[str, int]:
    """Token -> id, from 0 in the order of `tokens`: one id for all that are alike, and one for each other token."""
    ids: dict[str, int] = {}
    return {token: ids.setdefault(group_of.get(token, token), len(ids)) for token in tokens}


def swap(text: str, rng: random.Random, share: float) -> str:
    """The text with about `share` of its characters swapped for ones that look or sound alike."""
    return "".join(rng.choice(_alike(char)) if rng.random() < share else char for char in text)


def _alike(char: str) -> str:
    # Few characters look like it and many sound like it: each counts half.
    groups = [group[char] for group in (sounds(), shapes()) if len(group.get(char, "")) > 1]
    longest = max(map(len, groups), default=1)
    return "".join(group * (longest // len(group)) for group in groups) or char


def _group_of(groups: Iterable[str]) -> dict[str, str]:
    return {char: group for group in groups for char in group}
