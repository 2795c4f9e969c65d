"""What of the input is new or has changed since it was planned."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.plans import read_plans
from pipeline.resume import Progress
from pipeline.storage import Storage
from pipeline.units import InputFile
from pipeline.versions import Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the input differs from what was planned."""

    files: Collection[InputFile]  # that are there now
    is_to_plan: npt.NDArray[np.bool_]  # which of them: new and changed ones, and what shared a unit with a changed one
    superseded: list[str]  # units that a changed file was part of; with `prune`, or one that is gone
    num_gone: int  # files that were planned and are no longer there, and whose rows stay
    pruned: frozenset[str]  # URLs of such files whose rows go
    settled: list[str]  # in quarantine, files that were planned since, have changed or are gone

    @property
    def to_plan(self) -> Iterator[InputFile]:
        return compress(self.files, self.is_to_plan)

    @property
    def num_to_plan(self) -> int:
        return int(self.is_to_plan.sum())

    @property
    def num_pruned(self) -> int:
        return len(self.pruned)


def changes(output: Storage, progress: Progress, files: Collection[InputFile], *, prune: bool = False) -> Changes:
    """Compares the files that are there now with the plans.

    Args:
        files: read several times; of each, some thirty bytes are held meanwhile, and one byte of what is given back.
        prune: put units with files that are gone out of force, and plan anew what else they hold.

    Raises:
        InputError: without `prune`, rows of a file that is gone would go, since it shared a unit with a changed one.
    """
    found = _compare(output, progress, files, prune=prune)
    if found.pruned and not prune:
        raise InputError(
            f"{min(found.pruned)} is no longer in the input, and its rows are in one part with those of a file that "
            f"has changed: they would go as that one is done again. Files of which this is so: {len(found.pruned)}. "
            "Put them back, or run with --prune (output.prune: true), which removes the rows of all files that are "
            "gone."
        )
    return found


def _compare(output: Storage, progress: Progress, files: Collection[InputFile], *, prune: bool) -> Changes:
    now = Versions(files)
    is_to_plan = np.ones(len(now), dtype=bool)
    outdated: list[str] = []
    gone: set[str] = set()
    pruned: set[str] = set()
    for unit in read_plans(output, progress.superseded):
        versions = {(piece.file.url, piece.file.fingerprint) for piece in unit.pieces}
        missing: set[str] = set()
        current: list[int] = []
        has_changed = False
        for url, fingerprint in versions:
            place = now.place(url)
            if place is None:
                missing.add(url)
            elif now.is_current(place, fingerprint):
                current.append(place)
            else:
                has_changed = True
        if has_changed or (prune and missing):
            outdated.append(unit.name)
            if prune or unit.name in progress.whole or unit.name in progress.parts:
                pruned |= missing
        else:
            is_to_plan[current] = False
            gone |= missing
    settled: list[str] = []
    unreadable: list[int] = []
    for record in progress.bad_files():
        ((url, fingerprint),) = zip(record.urls, record.fingerprints, strict=True)
        place = now.place(url)
        if place is None or not now.is_current(place, fingerprint) or not is_to_plan[place]:
            settled.append(record.name)
        else:
            unreadable.append(place)
    is_to_plan[unreadable] = False
    return Changes(
        files=files,
        is_to_plan=now.in_order(is_to_plan),
        superseded=outdated,
        num_gone=len(gone),
        pruned=frozenset(pruned),
        settled=settled,
    )


def unreadable_before(output: Storage, progress: Progress, files: Collection[InputFile]) -> Changes:
    """What there is to plan when nothing is to be done but to try again the files that could not be planned."""
    bad = {record.name: (record.urls[0], record.fingerprints[0]) for record in progress.bad_files()}
    versions = set(bad.values())
    return replace(
        _compare(output, progress, files, prune=False),
        is_to_plan=np.fromiter(((file.url, file.fingerprint) in versions for file in files), dtype=bool),
        superseded=[],
        pruned=frozenset(),
        settled=list(bad),
    )
