"""The output folder: what lies where, and whose it is.

part-<unit>.parquet                  one per unit; that it exists is the commit
_SUCCESS                             empty, written last
.huggingface.yaml                    tells `datasets.load_dataset(folder)` to read the parts alone
_shardmill/job.json                  what decides a row's result, so that another job is told apart
_shardmill/spec.yaml                 the job as it was last run, without secrets: what `retry` goes by
_shardmill/plans/00000.plan          the units, in input order; one file per plan
_shardmill/runs/<run id>.json        a `RunSummary`, rewritten every few seconds while the run lives
_shardmill/quarantine/<name>.json    a unit or an input file that was given up, with its place and the reason
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import xxhash
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.cutting import is_name, is_range
from pipeline.errors import CommitConflict, OutputConflict, StorageError, StorageNotFound
from pipeline.events import RunSummary
from pipeline.leftovers import remove_leftovers
from pipeline.storage import Storage
from pipeline.units import InputFile, Unit

ROOT = "_shardmill"
JOB = f"{ROOT}/job.json"
SPEC = f"{ROOT}/spec.yaml"
PLANS = f"{ROOT}/plans"
RUNS = f"{ROOT}/runs"
QUARANTINE = f"{ROOT}/quarantine"
LEASE = f"{ROOT}/lease.json"
SUCCESS = "_SUCCESS"
PART_PREFIX, PART_SUFFIX = "part-", ".parquet"
DATASETS_CONFIG = ".huggingface.yaml"
METADATA_KEY = b"shardmill"  # Parquet key-value metadata of a part: JSON with the unit, its pieces and its counts
_DATASETS_CONFIG_BODY = b"configs:\n- config_name: default\n  data_files: part-*.parquet\n"
FILE_PREFIX = "file-"  # of the names, in quarantine, of input files that could not be planned
FORMAT_VERSION = 1
_OUR_PART = re.compile(r"part-\d{5}-\d{6}-[0-9a-f]{8}(\.[\w-]+)*\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A unit, or an input file that could not be planned, that the job gave up."""

    name: str  # the unit's name, or `file-<digest>`
    urls: tuple[str, ...]  # the input files concerned
    fingerprints: tuple[str, ...]  # of those files: a changed file is planned anew
    reason: str
    attempts: int
    at: float  # seconds since the epoch
    place: str = ""  # where it lies, for a person: the first file, and which part or which rows of it
    first_row: int | None = None  # of a unit that is a range of rows: these, counted from where `place` says
    stop_row: int | None = None  # of a single row the next one; None to the end

    @property
    def is_file(self) -> bool:
        """Whether this is an input file that could not be planned, rather than a unit or some rows of one."""
        return self.name.startswith(FILE_PREFIX)

    @property
    def is_row(self) -> bool:
        """Whether this is a single row, found by cutting its unit: the others of the unit are done."""
        return self.first_row is not None and self.stop_row == self.first_row + 1

    @classmethod
    def of_unit(cls, unit: Unit, *, attempts: int, reason: str) -> Quarantined:
        """The record of a unit that is given up now."""
        return cls(
            name=unit.name,
            urls=tuple(piece.file.url for piece in unit.pieces),
            fingerprints=tuple(piece.file.fingerprint for piece in unit.pieces),
            reason=reason,
            attempts=attempts,
            at=time.time(),
            place=_place(unit),
            first_row=unit.first_row if is_range(unit) else None,
            stop_row=unit.stop_row,
        )

    @classmethod
    def of_file(cls, file: InputFile, *, reason: str) -> Quarantined:
        """The record of a file that cannot be planned."""
        version = (file.url, file.fingerprint)
        return cls(
            name=FILE_PREFIX + xxhash.xxh3_64_hexdigest("\n".join(version).encode()),
            urls=version[:1],
            fingerprints=version[1:],
            reason=reason,
            attempts=1,
            at=time.time(),
            place=file.url,
        )


def _place(unit: Unit) -> str:
    piece = unit.pieces[0]
    place = piece.file.url
    if piece.start or len(unit.pieces) > 1:  # else rows are counted from the beginning of the file
        unit_of = "row group" if piece.file.format == "parquet" else "byte"
        place += f" from {unit_of} {piece.start}" if piece.start else ""
        place += f" and {len(unit.pieces) - 1} more files" if len(unit.pieces) > 1 else ""
    if unit.stop_row is None:
        return f"{place}, row {unit.first_row} and those after it" if unit.first_row else place
    if unit.stop_row - unit.first_row == 1:
        return f"{place}, row {unit.first_row}"
    return f"{place}, rows {unit.first_row} to {unit.stop_row - 1}"


def claim(output: Storage, job: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Makes the folder this job's, or checks that it is.

    Args:
        job: what decides a row's result and its columns, as JSON values; where the input lies is not part of it.
        overwrite: replace another job's folder. The caller holds the lease.

    Returns:
        True if the folder was this job's before.

    Raises:
        OutputConflict: the folder holds another job, or files that are none of ours.
    """
    mine = {"format_version": FORMAT_VERSION, **job}
    if not output.exists(JOB):
        stranger = next((entry.path for entry in output.list() if entry.path.startswith(PART_PREFIX)), None)
        if stranger is not None:
            raise OutputConflict(
                f"{output.url} holds {stranger} but no {JOB}: it was not written by shardmill, or its records "
                "are gone. Choose another output.url, or empty this one."
            )
        try:
            output.write_bytes(DATASETS_CONFIG, _DATASETS_CONFIG_BODY)
            output.write_bytes(JOB, json.dumps(mine, indent=2).encode(), exclusive=True)
        except CommitConflict:
            pass  # another driver was first: compare with what it wrote
        else:
            return False
    theirs = read_job(output)
    ours, there = _flat(mine), _flat(theirs)
    changed = [key for key in sorted(ours.keys() | there.keys()) if ours.get(key) != there.get(key)]
    if changed and overwrite:
        clear(output)
        output.write_bytes(JOB, json.dumps(mine, indent=2).encode())
        return False
    if changed:
        difference = "\n".join(f"  {key}: there {there.get(key)!r}, now {ours.get(key)!r}" for key in changed)
        raise OutputConflict(
            f"{output.url} belongs to another job, {theirs.get('name')!r}. What differs:\n{difference}\n"
            "Choose another output.url, or start afresh here with --overwrite (output.overwrite: true), which removes "
            "what that job has written."
        )
    return True


def clear(output: Storage) -> None:
    """Removes what a job has left here, but for the lease: all of what we write, and nothing else.

    May be stopped anywhere and begun again. `_SUCCESS` goes first, so that the rest never looks whole, and
    `_shardmill/job.json` stays, so that it never looks like nobody's; every state in between is one of that job.

    Raises:
        OutputConflict: part files are there that we did not write; nothing has been removed.
    """
    parts = [entry.path for entry in output.list(PART_PREFIX, max_depth=1)]
    strangers = [path for path in parts if not is_our_part(path)]
    if strangers:
        raise OutputConflict(
            f"{output.url} holds {strangers[0]}, which shardmill did not write: whoever reads the folder would take it "
            "for part of the results. Nothing was removed. Choose another output.url, or move that file away."
        )
    output.remove(SUCCESS)
    for path in parts:
        output.remove(path)
    # The latest first: without a later plan the earlier ones still make sense, the other way round they do not.
    for path in sorted((entry.path for entry in output.list(ROOT + "/")), reverse=True):
        if path not in (JOB, LEASE):
            output.remove(path)
    remove_leftovers(output)


def is_our_part(path: str) -> bool:
    """Whether a path in the folder has the name of a part file of ours."""
    return _OUR_PART.fullmatch(path) is not None


def identity(output: Storage) -> str:
    """A digest of what decides the results of the job that has the folder: another job has another."""
    return xxhash.xxh3_64_hexdigest(json.dumps(_flat(read_job(output)), sort_keys=True).encode())


def _flat(job: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, without those that decide no row's result."""
    flat: dict[str, Any] = {}
    for key, value in job.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return {key: value for key, value in flat.items() if key != "name" and not key.startswith("input.")}


def read_job(output: Storage) -> dict[str, Any]:
    """What `claim` wrote."""
    return _read(output, JOB, _JOB).model_dump()


def committed(output: Storage) -> Iterator[str]:
    """Names of the units whose part is there: one listing."""
    for entry in output.list():
        if entry.path.startswith(PART_PREFIX) and entry.path.endswith(PART_SUFFIX) and "/" not in entry.path:
            yield entry.path.removeprefix(PART_PREFIX).removesuffix(PART_SUFFIX)


def quarantined(output: Storage) -> Iterator[Quarantined]:
    """Everything that was given up.

    Raises:
        StorageError: a record is damaged, or its name is.
    """
    for entry in output.list(QUARANTINE):
        try:
            record = _read(output, entry.path, _QUARANTINED)
        except StorageNotFound:
            continue  # another driver has removed it since it was listed
        named = quarantine_path(record.name) == entry.path and (record.is_file or is_name(record.name))
        if not named or len(record.urls) != len(record.fingerprints) or (record.is_file and len(record.urls) != 1):
            raise _damaged(output, entry.path)
        yield record


def quarantine_path(name: str) -> str:
    """Where it is recorded that a unit or a file was given up."""
    return f"{QUARANTINE}/{name}.json"


def write_quarantined(output: Storage, record: Quarantined) -> None:
    """Records a unit or a file as given up; writing it twice does no harm."""
    body = json.dumps(dataclasses.asdict(record), indent=2).encode()
    output.write_bytes(quarantine_path(record.name), body)


def remove_quarantined(output: Storage, name: str) -> None:
    """Forgets that a unit or a file was given up."""
    output.remove(quarantine_path(name))


def write_run(output: Storage, summary: RunSummary) -> None:
    """Writes, or rewrites, the record of a run."""
    body = json.dumps(dataclasses.asdict(summary), indent=2).encode()
    output.write_bytes(f"{RUNS}/{summary.run_id}.json", body)


def runs(output: Storage) -> list[RunSummary]:
    """All runs, oldest first."""
    summaries = [_read(output, entry.path, _RUN) for entry in output.list(RUNS)]
    return sorted(summaries, key=lambda summary: summary.started_at)


def last_run(output: Storage) -> RunSummary | None:
    """The run that began last, by its id."""
    path = max((entry.path for entry in output.list(RUNS)), default=None)
    return None if path is None else _read(output, path, _RUN)


class _Job(BaseModel):
    """What `verify` needs of a job to read the input again; there is more, which is the task's."""

    model_config = ConfigDict(extra="allow")

    text: str
    text_pair: str | None
    keep: list[str]


_JOB = TypeAdapter(_Job)
_QUARANTINED = TypeAdapter(Quarantined)
_RUN = TypeAdapter(RunSummary)

Record = TypeVar("Record")


def _read(output: Storage, path: str, kind: TypeAdapter[Record]) -> Record:
    try:
        return kind.validate_json(output.read_bytes(path))
    except ValidationError as error:
        raise _damaged(output, path) from error


def _damaged(output: Storage, path: str) -> StorageError:
    return StorageError(
        f"{output.url_of(path)} is damaged: it is not the record that shardmill wrote. Restore it from a copy; "
        "records of runs and of what is in quarantine may be removed instead."
    )
