"""What the ledger decides, as values: the driver carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.units import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, as a plain value that crosses processes."""

    kind: str  # the error's class
    message: str
    retry: bool = True  # whether another attempt may do better
    reach: str = "unit"  # "file": one input file is bad; "run": nothing else would do better


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Give the unit to the worker."""

    unit: Unit
    worker: str
    attempt: int  # from 1
    alone: bool = False  # under suspicion: the worker has nothing else in hand, and counts the rows first
    copy: bool = False  # another worker has it too, and is slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Have the worker leave the unit: another has committed it."""

    unit: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The attempt failed; the unit will be handed out again. For the log."""

    unit: Unit
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The unit was cut into parts, one a file or half of the rows each, which take its place. For the log."""

    unit: Unit
    parts: tuple[Unit, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Record the unit as given up."""

    unit: Unit
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """End the worker, which hangs."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """End the worker, for which nothing is left to do."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """End the run: no other unit would do better."""

    failure: Failure


Decision = Assign | Drop | Retry | Split | Quarantine | End | Retire | Abort
