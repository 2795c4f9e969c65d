"""Damage to what a job keeps beside its output: its records, its plans, its lease, and its parts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import lease
from pipeline import output as layout
from pipeline.changes import changes
from pipeline.errors import ShardmillError
from pipeline.lease import Lease
from pipeline.options import InputOptions
from pipeline.output import Quarantined
from pipeline.planner import list_files
from pipeline.resume import Progress
from pipeline.status import read_status
from pipeline.storage import Storage
from pipeline.verify import verify_output
from tests.fuzz.damage import damaged
from tests.support.labelled import labelled_folder

KINDS = ("plan", "lease", "job", "run", "quarantine", "part")
JOB = {"name": "by-hand", "text": "text", "text_pair": None, "keep": ["id", "weight"], "task": {"type": "classify"}}
_PLACES = {
    "plan": layout.PLANS,
    "lease": layout.LEASE,
    "job": layout.JOB,
    "run": layout.RUNS,
    "quarantine": layout.QUARANTINE,
    "part": "",
}
_VALUES: tuple[Any, ...] = (
    None,
    True,
    7,
    -1,
    1e308,
    1 << 80,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    [None],
    {},
    {"a": 1},
)


class NotPassed(ShardmillError):
    """`verify` has found the damage."""


def write_folder(rng: random.Random, kind: str, root: Path) -> None:
    """An output folder as a finished job leaves it, with one of its files damaged."""
    folder = labelled_folder(root)
    record = Quarantined(name="file-0", urls=("x",), fingerprints=("1-2",), reason="r", attempts=1, at=1.0)
    layout.write_quarantined(folder.output, record)
    holder = {"run_id": "other", "host": "elsewhere", "pid": 1, "renewed_at": time.time() - rng.choice((0, 1000))}
    folder.output.write_bytes(layout.LEASE, json.dumps(holder).encode())
    place = root / "out" / _PLACES[kind]
    path = (
        place
        if place.is_file()
        else rng.choice(sorted(file for file in place.iterdir() if file.is_file() and file.stat().st_size))
    )
    path.write_bytes(_damaged_record(rng, path.read_bytes(), kind))


def _damaged_record(rng: random.Random, content: bytes, kind: str) -> bytes:
    """Damaged bytes; or a record that is well formed and says something else than it should."""
    if kind in ("plan", "part"):
        return _changed_table(rng, content) if rng.random() < 0.3 else damaged(rng, content)
    if rng.random() < 0.5:
        return damaged(rng, content)
    if rng.random() < 0.2:
        return json.dumps(rng.choice(_VALUES)).encode()
    record = json.loads(content)
    key = rng.choice([*record, "new"])
    if rng.random() < 0.3:
        record.pop(key, None)
    else:
        record[key] = rng.choice(_VALUES)
    return json.dumps(record).encode()


def _changed_table(rng: random.Random, content: bytes) -> bytes:
    table = pq.read_table(pa.BufferReader(content))
    column = rng.choice(table.column_names)
    match rng.randrange(3):
        case 0:
            table = table.drop_columns([column])
        case 1:
            index = table.column_names.index(column)
            table = table.set_column(index, column, pa.array([rng.choice((0, 1 << 62))] * table.num_rows))
        case _:
            table = table.slice(rng.randrange(table.num_rows + 1), 1).replace_schema_metadata({"supersedes": "7"})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def read_folder(root: Path) -> list[Callable[[], object]]:
    """What the commands do with an output folder; each is to end in a result or an error of ours."""
    output = Storage.open(str(root / "out"))
    files = list(list_files(InputOptions(url=f"{root}/*.parquet")))

    def verify(quick: bool) -> None:
        found = verify_output(output, quick=quick)
        if not found.passed:
            raise NotPassed("; ".join(check.name for check in found.checks if check.num_problems))

    def take_lease() -> None:
        with patch.object(lease, "STALE_S", 0.02), patch.object(lease, "RENEW_S", 0.05), Lease(output, "fuzz"):
            pass

    return [
        lambda: read_status(output),
        lambda: verify(quick=True),
        lambda: verify(quick=False),
        lambda: layout.claim(output, JOB),
        lambda: changes(output, Progress.of(output), files),
        take_lease,
    ]
