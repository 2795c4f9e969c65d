"""What is left to do: the plans less what is committed or in quarantine. It takes one listing; no input is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.cutting import cover, is_part, overlap, parent, winners
from pipeline.names import NameSet
from pipeline.output import Quarantined, committed, quarantined
from pipeline.plans import Superseded, read_plans, superseded
from pipeline.storage import Storage
from pipeline.units import InputFile, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an output folder holds. No two of the units that are committed or in quarantine have a row in common."""

    whole: NameSet  # names of planned units that are committed
    parts: Mapping[str, Collection[str]]  # by planned unit, of those that were cut: its parts that are committed
    quarantined: dict[str, Quarantined]  # by unit name, or `file-<digest>`
    given_up_in: Mapping[str, Collection[str]]  # by planned unit: what of it is in quarantine, itself or parts
    outdated: tuple[str, ...]  # committed, but superseded, or its rows are in other parts: they are to be removed
    mended: frozenset[str]  # in quarantine, but superseded, or some of it was committed since: to be removed there
    superseded: Superseded

    @classmethod
    def of(cls, output: Storage, *, also: Iterable[str] = (), before: Progress | None = None) -> Progress:
        """Reads the folder.

        Args:
            also: units that are known to be committed, whether or not the listing shows them yet.
            before: what it held a while ago, which spares reading plans again.
        """
        found_superseded = superseded(output, None if before is None else before.superseded)
        superseded_units = found_superseded.names
        listed_parts = defaultdict[str, set[str]](set)
        outdated: list[str] = []

        def whole_units() -> Iterator[str]:
            for name in committed(output):
                if parent(name) in superseded_units:
                    outdated.append(name)
                elif is_part(name):
                    listed_parts[parent(name)].add(name)
                else:
                    yield name

        whole = NameSet(whole_units())
        for name in also:
            if is_part(name) and parent(name) not in superseded_units:
                listed_parts[parent(name)].add(name)
        parts: dict[str, list[str]] = {}
        for planned, found in listed_parts.items():
            won, lost = winners([*found, planned] if planned in whole else found)
            outdated += lost
            if won != [planned]:
                parts[planned] = won

        records = {record.name: record for record in quarantined(output)}
        listed_records = defaultdict[str, list[str]](list)
        for name, record in records.items():
            if not record.is_file:
                listed_records[parent(name)].append(name)
        given_up_in: dict[str, list[str]] = {}
        mended: set[str] = set()
        for planned, names in listed_records.items():
            won, lost = winners(names)
            done = [planned] if planned in whole else parts.get(planned, ())
            holds = [name for name in won if planned not in superseded_units and not overlap(name, done)]
            mended |= {*won, *lost} - set(holds)
            if holds:
                given_up_in[planned] = holds
        return cls(
            whole=whole,
            parts=parts,
            quarantined={name: record for name, record in records.items() if name not in mended},
            given_up_in=given_up_in,
            outdated=tuple(outdated),
            mended=frozenset(mended),
            superseded=found_superseded,
        )

    @property
    def committed(self) -> Iterator[str]:
        """Names of the units whose rows are there."""
        yield from self.whole
        for names in self.parts.values():
            yield from names

    def is_committed(self, name: str) -> bool:
        return name in self.parts.get(parent(name), ()) if is_part(name) else name in self.whole

    def resolve(self, planned: Unit) -> Iterator[Unit]:
        """A planned unit as it is: itself, or the parts that it was cut into and what is left between them."""
        return cover(planned, [*self.parts.get(planned.name, ()), *self.given_up_in.get(planned.name, ())])

    def is_over(self, unit: Unit) -> bool:
        """Committed, or given up."""
        return self.is_committed(unit.name) or unit.name in self.quarantined

    def bad_files(self) -> list[Quarantined]:
        """What is in quarantine of files that could not be planned."""
        return [record for record in self.quarantined.values() if record.is_file]

    def given_up(self, files: Iterable[InputFile]) -> list[Quarantined]:
        """What is in quarantine of these files as they are now; of what was mended since, or removed, nothing."""
        versions = {
            record.name: frozenset(zip(record.urls, record.fingerprints, strict=True))
            for record in self.quarantined.values()
        }
        sought = frozenset().union(*versions.values())
        current = {version for file in files if (version := (file.url, file.fingerprint)) in sought} if sought else ()
        return [record for name, record in self.quarantined.items() if not versions[name].isdisjoint(current)]


def all_units(output: Storage, progress: Progress) -> Iterator[Unit]:
    """Every unit of every plan, in order."""
    for planned in read_plans(output, progress.superseded):
        yield from progress.resolve(planned)
