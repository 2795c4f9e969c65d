"""One bad row costs one row: a window that fails is halved until the rows that make it fail stand alone.

Those become rows with an error; then the window is done again without them. This goes for what a text can do to a
tokenizer or a model: a bug on a strange text, a batch too large for the memory. What is wrong with the run as a whole,
or with the device, ends the unit as ever.
"""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Callable
from typing import TypeVar

from models.errors import ModelError
from pipeline.engine import Engine, Launched, Outputs, Results, Window
from pipeline.errors import DeviceLost, ShardmillError
from pipeline.reader import RawBatch

logger = logging.getLogger(__name__)

# A window with more bad rows than this has another fault: it is not worth the search, and the unit fails.
MOST_BAD_ROWS = 64
MOST_BAD_SHARE = 0.25

# What torch says when the process can use the device no more, whatever it is asked to do next.
_DEVICE_LOST = ("CUDA error", "CUBLAS_STATUS", "cuDNN error")

T = TypeVar("T")


def encode(engine: Engine, batch: RawBatch) -> tuple[RawBatch, Window]:
    """Tokenizes a window; gives it back with the rows marked that made this fail."""
    return _without_bad_rows(batch, "tokenize", lambda rows: _encode(engine, rows))


def launch(engine: Engine, batch: RawBatch, window: Window) -> tuple[RawBatch, Window, Launched]:
    """Sends a window through the model; gives it back with the rows marked that made this fail.

    Raises:
        DeviceLost: the process can use the device no more.
    """

    def attempt(rows: RawBatch) -> tuple[Window, Launched]:
        rest = window if rows is batch else _encode(engine, rows)
        return rest, engine.launch(rest)

    marked, (rest, launched) = _without_bad_rows(batch, "forward", attempt)
    return marked, rest, launched


def collect(engine: Engine, launched: Launched) -> Outputs:
    """Waits for a launched window's outputs. What a GPU could not do shows here.

    Raises:
        DeviceLost: the process can use the device no more.
    """
    try:
        return engine.collect(launched)
    except RuntimeError as error:
        _raise_unless_of_a_row(error)
        raise


def decode(engine: Engine, batch: RawBatch, window: Window, outputs: Outputs) -> Results:
    """Turns outputs into columns; rows that made this fail have an error. The model is not run again."""

    def attempt(rows: RawBatch) -> Results:
        if rows is batch:
            return engine.decode(window, outputs)
        rest = _encode(engine, rows)
        return engine.decode(rest, engine.pick(window, outputs, rest))

    return _without_bad_rows(batch, "decode", attempt)[1]


def _encode(engine: Engine, rows: RawBatch) -> Window:
    return engine.encode(rows.texts, rows.pairs, errors=rows.errors)


def _without_bad_rows(batch: RawBatch, stage: str, attempt: Callable[[RawBatch], T]) -> tuple[RawBatch, T]:
    """Gives what `attempt` makes of a window, and the window with those rows marked as errors that it failed on."""
    try:
        return batch, attempt(batch)
    except Exception as error:
        _raise_unless_of_a_row(error)
        logger.warning("a window failed in %s (%s): looking for the rows", stage, type(error).__name__)
        traceback.clear_frames(error.__traceback__)  # they hold tensors: it may have been for want of memory
        bad = _bad_rows(batch, stage, attempt, error)
    marked = _marked(batch, bad)
    return marked, attempt(marked)


def _bad_rows(batch: RawBatch, stage: str, attempt: Callable[[RawBatch], object], error: Exception) -> dict[int, str]:
    """The rows that fail even alone, and why. Raises `error`, that of the whole window, if they are too many."""
    rows = [row for row in range(len(batch.texts)) if row not in batch.errors]
    most = max(1, min(MOST_BAD_ROWS, int(len(rows) * MOST_BAD_SHARE)))
    bad: dict[int, str] = {}
    failing = [(rows, type(error).__name__)]
    while failing:
        group, kind = failing.pop()
        if len(group) < 2:
            bad |= dict.fromkeys(group, f"{kind} in {stage}")
            if len(bad) > most or not group:
                raise error
            continue
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            others = set(rows).difference(half)
            try:
                attempt(_marked(batch, dict.fromkeys(others, "not looked at now")))
            except Exception as again:
                _raise_unless_of_a_row(again)
                failing.append((half, type(again).__name__))
    return bad


def _marked(batch: RawBatch, errors: dict[int, str]) -> RawBatch:
    return dataclasses.replace(batch, errors=batch.errors | errors)


def _raise_unless_of_a_row(error: Exception) -> None:
    if isinstance(error, (ShardmillError, ModelError)):
        raise error
    message = str(error)
    if isinstance(error, RuntimeError) and any(sign in message for sign in _DEVICE_LOST):
        raise DeviceLost(f"the device cannot be used any more: {message.splitlines()[0]}") from error
