"""Writing the same rows in every format, and reading pieces back."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.options import InputOptions
from pipeline.planner import BadFile, list_files, plan_units
from pipeline.reader import RawBatch, read_piece
from pipeline.units import InputFile, Piece, Unit

BATCH_ROWS = 64  # of a row group or record batch in what is written here


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=BATCH_ROWS)
    return sink.getvalue()


def _arrow(table: pa.Table, new: Callable[..., Any] = pa.ipc.new_file) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            writer.write_batch(batch)
    return sink.getvalue()


def _jsonl(table: pa.Table) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()


def _csv(table: pa.Table) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, table.column_names)
    writer.writeheader()
    writer.writerows(table.to_pylist())
    return sink.getvalue().encode()


def _text(table: pa.Table) -> bytes:
    return "".join(f"{text}\n" for text in table["text"].to_pylist()).encode()


WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "x.parquet": _parquet,
    "x.arrow": _arrow,
    "x.arrows": lambda table: _arrow(table, pa.ipc.new_stream),
    "x.jsonl": _jsonl,
    "x.jsonl.gz": lambda table: gzip.compress(_jsonl(table)),
    "x.jsonl.zst": lambda table: zstandard.compress(_jsonl(table)),
    "x.jsonl.bz2": lambda table: bz2.compress(_jsonl(table)),
    "x.jsonl.xz": lambda table: lzma.compress(_jsonl(table)),
    "x.csv": _csv,
    "x.csv.gz": lambda table: gzip.compress(_csv(table)),
    "x.csv.zst": lambda table: zstandard.compress(_csv(table)),
    "x.txt": _text,
}


def planned(source: InputOptions, *, unit_bytes: int = 1 << 30) -> tuple[list[Unit], list[BadFile]]:
    """All units of an input, and its bad files."""
    units: list[Unit] = []
    bad: list[BadFile] = []
    for found in plan_units(list_files(source), source, unit_bytes=unit_bytes):
        if isinstance(found, Unit):
            units.append(found)
        else:
            bad.append(found)
    return units, bad


def whole(file: InputFile) -> Piece:
    """The piece that is all of a file."""
    return Piece(file=file)


def rows_of(batches: Iterable[RawBatch]) -> list[dict[str, Any]]:
    """Rows as `text`, `pair` where there are pairs, the kept columns, and `error`; checks the places on the way."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        assert batch.first_row == len(rows)
        assert len(batch.texts) == batch.kept.num_rows or not batch.kept.num_columns
        for row, text in enumerate(batch.texts.to_pylist()):
            found = {"text": text}
            if batch.pairs is not None:
                found["pair"] = batch.pairs[row].as_py()
            found |= {name: batch.kept[name][row].as_py() for name in batch.kept.schema.names}
            rows.append(found | {"error": batch.errors.get(row)})
    return rows


def read_units(units: Iterable[Unit], source: InputOptions, **arguments: Any) -> list[dict[str, Any]]:
    """The rows of units, one after another."""
    options: Mapping[str, Any] = {"text": source.text, "text_pair": source.text_pair} | arguments
    rows: list[dict[str, Any]] = []
    for unit in units:
        for piece in unit.pieces:
            rows += rows_of(read_piece(piece, storage_options=source.storage, **options))
    return rows
