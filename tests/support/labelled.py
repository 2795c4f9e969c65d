"""A small output folder made by hand, as a finished job leaves it: what tests of `status` and `verify` break."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import output as layout
from pipeline.engine import EMPTY_TEXT, NULL_TEXT
from pipeline.events import RunSummary
from pipeline.plans import write_plan
from pipeline.storage import Storage
from pipeline.units import InputFile, Piece, Unit
from pipeline.writer import PartWriter

OUTPUT_SCHEMA = pa.schema(
    [("id", pa.int64()), ("weight", pa.float64()), ("label", pa.string()), ("error", pa.string())]
)
INPUT_SCHEMA = pa.schema([("id", pa.int64()), ("weight", pa.float64()), ("text", pa.string())])


@dataclass(slots=True, kw_only=True)
class LabelledFolder:
    """Four units over three files of ten rows; the first file is cut into two, the last unit holds two files."""

    root: Path
    units: list[Unit] = field(default_factory=list)

    @property
    def output(self) -> Storage:
        return Storage.open(str(self.root / "out"))

    def part(self, place: int) -> Path:
        return self.root / "out" / self.units[place].output_name

    def rows(self, unit: Unit) -> pa.Table:
        """What a unit's part should hold."""
        tables = []
        for piece in unit.pieces:
            source = pq.ParquetFile(piece.file.url)
            stop = source.num_row_groups if piece.stop is None else piece.stop
            tables.append(source.read_row_groups(list(range(piece.start, stop))))
        table = pa.concat_tables(tables)
        texts = table["text"].to_pylist()
        errors = [NULL_TEXT if text is None else EMPTY_TEXT if not text.strip() else None for text in texts]
        labels = [None if error else "topic" for error in errors]
        columns = [table["id"], table["weight"], pa.array(labels, pa.string()), pa.array(errors, pa.string())]
        return pa.Table.from_arrays(columns, schema=OUTPUT_SCHEMA)

    def write_part(self, unit: Unit, rows: pa.Table | None = None, **record: Any) -> None:
        """Writes a part file; `rows` and entries of its own record may be other than they should."""
        table = self.rows(unit) if rows is None else rows
        writer = PartWriter(table.schema, self.root, compression="zstd")
        for batch in table.to_batches(max_chunksize=3):
            writer.write(batch)
        errors = table["error"].to_pylist() if "error" in table.column_names else []
        num_empty = sum(error in (NULL_TEXT, EMPTY_TEXT) for error in errors)
        told = {
            "unit": unit.name,
            "num_rows": table.num_rows,
            "num_empty": num_empty,
            "num_errors": sum(error is not None for error in errors) - num_empty,
            "num_tokens": 5 * table.num_rows,
            "pieces": [
                {"url": p.file.url, "fingerprint": p.file.fingerprint, "start": p.start, "stop": p.stop}
                for p in unit.pieces
            ],
            "rows": [unit.first_row, unit.stop_row],
        }
        writer.close(told | record)
        self.output.put_file(writer.path, unit.output_name, exclusive=False)
        writer.discard()

    def write_run(self, **changes: Any) -> None:
        """Adds the record of a run."""
        now = time.time()
        summary = {"run_id": "r1", "state": "done", "output_url": str(self.root / "out"), "started_at": now - 60.0,
                   "updated_at": now, "num_rows": 40, "rows_per_s": 10.0, "tokens_per_s": 50.0}  # fmt: skip
        layout.write_run(self.output, RunSummary(**(summary | changes)))


def labelled_folder(root: Path) -> LabelledFolder:
    """Makes input, plan, parts, run record and `_SUCCESS` under `root`."""
    folder = LabelledFolder(root=root)
    files = [_input_file(root, name, first_id=10 * place) for place, name in enumerate(("a", "b", "c", "d"))]
    pieces = [
        (Piece(file=files[0], start=0, stop=1, num_rows=5),),
        (Piece(file=files[0], start=1, stop=2, num_rows=5),),
        (Piece(file=files[1], num_rows=10),),
        (Piece(file=files[2], num_rows=10), Piece(file=files[3], num_rows=10)),
    ]
    folder.units = [
        Unit(name=f"00000-{place:06d}-{place:08x}", pieces=of_unit, size_bytes=100)
        for place, of_unit in enumerate(pieces)
    ]
    job = {
        "format_version": 1,
        "name": "by-hand",
        "text": "text",
        "text_pair": None,
        "keep": ["id", "weight"],
        "task": {"type": "classify"},
    }
    folder.output.write_bytes(layout.JOB, json.dumps(job).encode())
    source = {"url": [str(root / "*.parquet")], "storage": {}}
    folder.output.write_bytes(layout.SPEC, json.dumps({"input": source}).encode())
    write_plan(folder.output, 0, folder.units)
    for unit in folder.units:
        folder.write_part(unit)
    folder.write_run()
    folder.output.write_bytes(layout.SUCCESS, b"")
    return folder


def _input_file(root: Path, name: str, *, first_id: int) -> InputFile:
    texts: list[str | None] = [f"text {first_id + row}" for row in range(10)]
    texts[3], texts[7] = None, "  "
    weights = [float(row) for row in range(10)]
    weights[2] = float("nan")
    table = pa.table(
        {"id": list(range(first_id, first_id + 10)), "weight": weights, "text": texts}, schema=INPUT_SCHEMA
    )
    path = root / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=5)
    entry = Storage.open(str(path)).stat()
    assert entry is not None
    return InputFile(url=str(path), format="parquet", size_bytes=entry.size_bytes, fingerprint=entry.fingerprint)
