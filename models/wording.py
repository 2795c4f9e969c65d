"""How error messages list names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def first_ten(names: Collection[str]) -> str:
    """Names in order, at most ten of them, and how many there are where some are left out."""
    shown = ", ".join(sorted(names)[:10])
    return shown if len(names) <= 10 else f"{shown}, ... ({len(names)} in all)"


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
