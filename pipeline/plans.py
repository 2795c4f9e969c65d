"""Plans in the output folder: each is written once, and read back as a stream."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from pipeline.errors import StorageError
from pipeline.output import PLANS
from pipeline.storage import Storage
from pipeline.units import InputFile, Piece, Unit

SUFFIX = ".plan"  # it is Parquet; but DuckDB, given the output folder, would take `*.parquet` for rows of the output
CHUNK_UNITS = 1000  # held at a time, both ways

_FILE = pa.struct(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("compression", pa.string()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("version", pa.string()),
    ]
)
_PIECE = pa.struct(
    [
        pa.field("file", _FILE, nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64()),
        pa.field("num_rows", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("pieces", pa.list_(_PIECE), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
    ]
)


_SUPERSEDES = b"supersedes"  # Parquet key-value metadata of a plan: names of earlier units, as JSON
_NAMES = TypeAdapter(list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """Units that later plans have put out of force, as far as plans were looked at."""

    names: frozenset[str] = frozenset()
    num_plans: int = 0  # that were looked at


def write_plan(output: Storage, number: int, units: Iterable[Unit], *, supersedes: Sequence[str] = ()) -> int:
    """Writes a plan, as `units` come, and gives how many there were.

    Args:
        supersedes: names of units of earlier plans that hold for nothing any more, since their files have changed.

    Raises:
        CommitConflict: a plan of this number is there; another driver is at work.
    """
    remaining = iter(units)
    num_units = 0
    with tempfile.TemporaryDirectory(prefix="shardmill-plan-") as folder:
        staged = Path(folder) / "plan.parquet"
        with pq.ParquetWriter(staged, SCHEMA, compression="zstd") as writer:
            while chunk := [dataclasses.asdict(unit) for unit in islice(remaining, CHUNK_UNITS)]:
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=SCHEMA))
                num_units += len(chunk)
            writer.add_key_value_metadata({_SUPERSEDES: json.dumps(list(supersedes)).encode()})
        output.put_file(staged, _path(number), exclusive=True)
    return num_units


def num_plans(output: Storage) -> int:
    """How many plans there are; the number of the next one."""
    listed = sum(1 for _ in output.list(PLANS + "/"))
    while output.exists(_path(listed)):  # where listings are late
        listed += 1
    return listed


def _path(number: int) -> str:
    return f"{PLANS}/{number:05d}{SUFFIX}"


def read_plans(output: Storage, outdated: Superseded) -> Iterator[Unit]:
    """The units of the plans that are in force, in the order in which they were planned.

    Raises:
        StorageError: a plan is damaged.
    """
    for number in range(outdated.num_plans):
        yield from (unit for unit in _units_of(output, _path(number)) if unit.name not in outdated.names)


def superseded(output: Storage, known: Superseded | None = None) -> Superseded:
    """What the plans put out of force.

    Args:
        known: the answer of an earlier time: plans do not change, so only those that came since are read.

    Raises:
        StorageError: a plan is damaged.
    """
    known = known or Superseded()
    names = set(known.names)
    number = num_plans(output)
    for new in range(known.num_plans, number):
        names.update(_superseded_by(output, _path(new)))
    return Superseded(names=frozenset(names), num_plans=number)


def _units_of(output: Storage, path: str) -> Iterator[Unit]:
    with _opened(output, path) as plan:
        for batch in plan.iter_batches(batch_size=CHUNK_UNITS, use_threads=False):
            yield from map(_unit, batch.to_pylist())


def _superseded_by(output: Storage, path: str) -> list[str]:
    with _opened(output, path) as plan:
        return _NAMES.validate_json((plan.metadata.metadata or {}).get(_SUPERSEDES, b"[]"))


@contextmanager
def _opened(output: Storage, path: str) -> Iterator[pq.ParquetFile]:
    try:
        with output.open_file(path) as file:
            plan = pq.ParquetFile(file)
            if not plan.schema_arrow.equals(SCHEMA):
                raise ValueError("it has other columns than a plan")
            yield plan
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{output.url_of(path)} cannot be read: the plan is damaged. Restore it, or use another output."
        ) from error


def _unit(row: dict[str, object]) -> Unit:
    pieces = tuple(Piece(**(piece | {"file": InputFile(**piece["file"])})) for piece in row["pieces"])  # type: ignore
    return Unit(**(row | {"pieces": pieces}))  # type: ignore
