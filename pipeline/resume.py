"""What is left to do: the plans less what is committed or in quarantine. It takes one listing; no input is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.ledger import parent, split
from pipeline.output import Quarantined, committed, quarantined
from pipeline.plans import read_plans, superseded
from pipeline.storage import Storage
from pipeline.units import InputFile, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an output folder holds."""

    committed: frozenset[str]  # unit names
    quarantined: dict[str, Quarantined]  # by unit name, or `file-<digest>`
    outdated: tuple[str, ...]  # units that are committed but superseded: their parts are to be removed

    @classmethod
    def of(cls, output: Storage) -> Progress:
        outdated = superseded(output)
        parts = list(committed(output))
        return cls(
            committed=frozenset(name for name in parts if parent(name) not in outdated),
            quarantined={r.name: r for r in quarantined(output) if parent(r.name) not in outdated},
            outdated=tuple(name for name in parts if parent(name) in outdated),
        )

    def resolve(self, planned: Unit) -> tuple[Unit, ...]:
        """A planned unit as it was worked on: itself, or the units that it was cut into for a bad file's sake."""
        if not self.is_over(planned) and len(planned.pieces) > 1:
            parts = split(planned)
            if any(self.is_over(part) for part in parts):
                return parts
        return (planned,)

    def is_over(self, unit: Unit) -> bool:
        """Committed, or given up."""
        return unit.name in self.committed or unit.name in self.quarantined

    def given_up(self, files: Iterable[InputFile]) -> list[Quarantined]:
        """What is in quarantine of these files as they are now; of what was mended since, or removed, nothing."""
        versions = {(file.url, file.fingerprint) for file in files}
        return [
            record
            for record in self.quarantined.values()
            if not versions.isdisjoint(zip(record.urls, record.fingerprints, strict=True))
        ]


def all_units(output: Storage, progress: Progress) -> Iterator[Unit]:
    """Every unit of every plan, in order."""
    for planned in read_plans(output):
        yield from progress.resolve(planned)
