"""What of the input is new or has changed since it was planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.output import FILE_PREFIX
from pipeline.plans import read_plans
from pipeline.resume import Progress
from pipeline.storage import Storage
from pipeline.units import InputFile

FileVersion = tuple[str, str]  # URL and fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the input differs from what was planned."""

    to_plan: list[InputFile]  # new and changed files, and those that shared a unit with a changed one
    superseded: list[str]  # units that a changed file was part of


def changes(output: Storage, progress: Progress, files: Sequence[InputFile]) -> Changes:
    """Compares the files that are there now with the plans. Files that are gone change nothing."""
    now = {file.url: file.fingerprint for file in files}
    planned: set[FileVersion] = set()
    outdated: list[str] = []
    for unit in read_plans(output):
        versions = {(piece.file.url, piece.file.fingerprint) for piece in unit.pieces}
        if any(now.get(url, fingerprint) != fingerprint for url, fingerprint in versions):
            outdated.append(unit.name)
        else:
            planned |= versions
    for record in progress.quarantined.values():
        if record.name.startswith(FILE_PREFIX):
            planned.update(zip(record.urls, record.fingerprints, strict=True))
    return Changes(to_plan=[file for file in files if (file.url, file.fingerprint) not in planned], superseded=outdated)
