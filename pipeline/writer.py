"""Writing one unit's rows to one Parquet file, staged where no reader looks until it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StorageError
from pipeline.output import METADATA_KEY

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 64 << 20  # embeddings are wide: bounds a worker's memory, and a reader's


def record_of(part: pq.ParquetFile) -> dict[str, Any]:
    """What the writer of a part said when it closed it; empty if the file is not ours."""
    try:
        record = json.loads((part.metadata.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


class PartWriter:
    """Collects record batches into row groups of a local file; `close` makes it whole.

    One unit, one writer, one thread. A writer that is not closed must be dropped with `discard`.
    """

    def __init__(self, schema: pa.Schema, folder: Path, *, compression: str) -> None:
        """Opens a new file in `folder`, which must exist."""
        descriptor, path = tempfile.mkstemp(prefix="shardmill-", suffix=".parquet", dir=folder)
        os.close(descriptor)
        self.path = Path(path)
        self.num_rows = 0
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._file = pq.ParquetWriter(self.path, schema, compression=compression, write_page_index=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows; they reach the file when a row group is full."""
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        self.num_rows += batch.num_rows
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self, metadata: Mapping[str, Any]) -> int:
        """Writes the footer with `metadata` as JSON; returns the file's size in bytes."""
        self._flush()
        self._guard(lambda: self._file.add_key_value_metadata({METADATA_KEY: json.dumps(metadata).encode()}))
        self._guard(self._file.close)
        return self.path.stat().st_size

    def discard(self) -> None:
        """Removes the file, closed or not."""
        try:
            with contextlib.suppress(OSError):  # it writes what it holds, and the disk may be full
                self._file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._held:
            table = pa.Table.from_batches(self._held, self._schema)
            self._guard(lambda: self._file.write_table(table, row_group_size=ROW_GROUP_ROWS))
            self._held = []
            self._held_rows = self._held_bytes = 0

    def _guard(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise StorageError(
                f"cannot write the staged file {self.path}: {error.strerror or error}. "
                "Make room there, or point TMPDIR to another disk, and run the job again."
            ) from error
