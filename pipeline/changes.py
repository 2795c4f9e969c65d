"""What of the input is new or has changed since it was planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.plans import read_plans
from pipeline.resume import Progress
from pipeline.storage import Storage
from pipeline.units import InputFile

FileVersion = tuple[str, str]  # URL and fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the input differs from what was planned."""

    to_plan: list[InputFile]  # new and changed files, and those that shared a unit with a changed one
    superseded: list[str]  # units that a changed file was part of; with `prune`, or one that is gone
    num_gone: int  # files that were planned and are no longer there, and whose rows stay
    num_pruned: int  # such files whose rows go: if so asked, or with those of a changed file in the same unit
    settled: list[str]  # in quarantine, files that were planned since, have changed or are gone


def changes(output: Storage, progress: Progress, files: Sequence[InputFile], *, prune: bool = False) -> Changes:
    """Compares the files that are there now with the plans.

    Args:
        prune: put units with files that are gone out of force, and plan anew what else they hold.
    """
    now = {file.url: file.fingerprint for file in files}
    planned: set[FileVersion] = set()
    outdated: list[str] = []
    gone: set[str] = set()
    pruned: set[str] = set()
    for unit in read_plans(output):
        versions = {(piece.file.url, piece.file.fingerprint) for piece in unit.pieces}
        missing = {url for url, _ in versions if url not in now}
        if (prune and missing) or any(now.get(url, fingerprint) != fingerprint for url, fingerprint in versions):
            outdated.append(unit.name)
            pruned |= missing
        else:
            planned |= versions
            gone |= missing
    settled: list[str] = []
    unreadable: set[FileVersion] = set()
    for record in progress.bad_files():
        (version,) = zip(record.urls, record.fingerprints, strict=True)
        if version in planned or now.get(version[0]) != version[1]:
            settled.append(record.name)
        else:
            unreadable.add(version)
    return Changes(
        to_plan=[file for file in files if (file.url, file.fingerprint) not in planned | unreadable],
        superseded=outdated,
        num_gone=len(gone),
        num_pruned=len(pruned),
        settled=settled,
    )


def unreadable_before(output: Storage, progress: Progress, files: Sequence[InputFile]) -> Changes:
    """What there is to plan when nothing is to be done but to try again the files that could not be planned."""
    bad = {record.name: (record.urls[0], record.fingerprints[0]) for record in progress.bad_files()}
    return replace(
        changes(output, progress, files),
        to_plan=[file for file in files if (file.url, file.fingerprint) in bad.values()],
        superseded=[],
        num_pruned=0,
        settled=list(bad),
    )
