"""The output folder: what lies where, and whose it is.

part-<unit>.parquet                  one per unit; that it exists is the commit
_SUCCESS                             empty, written last
.huggingface.yaml                    tells `datasets.load_dataset(folder)` to read the parts alone
_shardmill/job.json                  what decides a row's result, so that another job is told apart
_shardmill/plans/00000.plan          the units, in input order; one file per plan
_shardmill/runs/<run id>.json        a `RunSummary`, rewritten every few seconds while the run lives
_shardmill/quarantine/<name>.json    a unit or an input file that was given up, with its place and the reason
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CommitConflict, OutputConflict
from pipeline.events import RunSummary
from pipeline.storage import Storage

ROOT = "_shardmill"
JOB = f"{ROOT}/job.json"
PLANS = f"{ROOT}/plans"
RUNS = f"{ROOT}/runs"
QUARANTINE = f"{ROOT}/quarantine"
SUCCESS = "_SUCCESS"
PART_PREFIX, PART_SUFFIX = "part-", ".parquet"
DATASETS_CONFIG = ".huggingface.yaml"
METADATA_KEY = b"shardmill"  # Parquet key-value metadata of a part: JSON with the unit, its pieces and its counts
_DATASETS_CONFIG_BODY = b"configs:\n- config_name: default\n  data_files: part-*.parquet\n"
FILE_PREFIX = "file-"  # of the names, in quarantine, of input files that could not be planned
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A unit, or an input file that could not be planned, that the job gave up."""

    name: str  # the unit's name, or `file-<digest>`
    urls: tuple[str, ...]  # the input files concerned
    fingerprints: tuple[str, ...]  # of those files: a changed file is planned anew
    reason: str
    attempts: int
    at: float  # seconds since the epoch


def claim(output: Storage, job: Mapping[str, Any]) -> bool:
    """Makes the folder this job's, or checks that it is.

    Args:
        job: what decides a row's result and its columns, as JSON values; where the input lies is not part of it.

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
    if changed:
        difference = "\n".join(f"  {key}: there {there.get(key)!r}, now {ours.get(key)!r}" for key in changed)
        raise OutputConflict(
            f"{output.url} belongs to another job, {theirs.get('name')!r}. What differs:\n{difference}\n"
            "Choose another output.url, or empty this one to start afresh."
        )
    return True


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
    job: dict[str, Any] = json.loads(output.read_bytes(JOB))
    return job


def committed(output: Storage) -> Iterator[str]:
    """Names of the units whose part is there: one listing."""
    for entry in output.list():
        if entry.path.startswith(PART_PREFIX) and entry.path.endswith(PART_SUFFIX) and "/" not in entry.path:
            yield entry.path.removeprefix(PART_PREFIX).removesuffix(PART_SUFFIX)


def quarantined(output: Storage) -> Iterator[Quarantined]:
    """Everything that was given up."""
    for entry in output.list(QUARANTINE):
        record = json.loads(output.read_bytes(entry.path))
        record["urls"], record["fingerprints"] = tuple(record["urls"]), tuple(record["fingerprints"])
        yield Quarantined(**record)


def write_quarantined(output: Storage, record: Quarantined) -> None:
    """Records a unit or a file as given up; writing it twice does no harm."""
    body = json.dumps(dataclasses.asdict(record), indent=2).encode()
    output.write_bytes(f"{QUARANTINE}/{record.name}.json", body)


def write_run(output: Storage, summary: RunSummary) -> None:
    """Writes, or rewrites, the record of a run."""
    body = json.dumps(dataclasses.asdict(summary), indent=2).encode()
    output.write_bytes(f"{RUNS}/{summary.run_id}.json", body)


def runs(output: Storage) -> list[RunSummary]:
    """All runs, oldest first."""
    summaries = [RunSummary(**json.loads(output.read_bytes(entry.path))) for entry in output.list(RUNS)]
    return sorted(summaries, key=lambda summary: summary.started_at)
