"""What a finished job left in its output folder, and comparing it with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import committed
from pipeline.storage import Storage
from pipeline.verify import verify_output

TOLERANCE = 1e-5  # of scores and vectors: other neighbours in a batch change the order of summation


def rows_of(storage: Storage) -> pa.Table:
    """All rows, in the order of the part files' names."""
    tables = []
    for name in sorted(committed(storage)):
        with storage.open_file(f"part-{name}.parquet") as file:
            tables.append(pq.read_table(file))
    return pa.concat_tables(tables)


def parts_of(folder: Path) -> dict[str, int]:
    """The part files by name, with the time of their last change."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}


def assert_verified(storage: Storage, **options: Any) -> None:
    """`shardmill verify` passes, having compared all that is there with the input."""
    found = verify_output(storage, **options)
    assert found.passed, {check.name: check.problems for check in found.checks if check.problems}
    assert found.num_compared == found.num_units - found.num_quarantined


def assert_alike(found: object, expected: object) -> None:
    """Equal in everything but the last digits of numbers."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_alike(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        assert isinstance(found, float)
        assert abs(found - expected) <= TOLERANCE
    else:
        assert found == expected
