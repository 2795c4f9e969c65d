"""Damaged input files of every format, made from a seed."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.bombs import BOMBS, COMPRESSORS
from tests.fuzz.damage import damaged

GOOD = "a-good.jsonl"  # beside a damaged file: what becomes of the one must not touch the other
GOOD_ROWS = 20
KEPT = ("id", "tags")

LINES = ("jsonl", "csv", "text")
FORMATS = ("parquet", "arrow", "arrow-stream", *LINES, *(kind + end for kind in LINES for end in COMPRESSORS))


def rows(rng: random.Random, num_rows: int, *, nested: bool = True) -> pa.Table:
    """Rows with `id`, `text` and `tags`; texts of all lengths and scripts, some null or blank."""
    words = ("Ada", "met", "Łódź", "東京", "😀", '"no"', "a,b", "x" * 300, "\t", "e\u0301")
    texts = [
        None if rng.random() < 0.05 else " ".join(rng.choices(words, k=rng.choice((0, 1, 5, 40))))
        for _ in range(num_rows)
    ]
    tags = [[f"t{rng.randrange(5)}"] * rng.randrange(3) for _ in texts]
    return pa.table(
        {
            "id": pa.array(range(num_rows), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "tags": pa.array(tags, pa.list_(pa.string())) if nested else pa.array([" ".join(tag) for tag in tags]),
        }
    )


def good_bytes(rng: random.Random, kind: str) -> bytes:
    """A file of a format, before it is damaged."""
    kind, dot, compression = kind.partition(".")
    content = _WRITERS[kind](rng, rows(rng, rng.choice((1, 20, 300)), nested=kind not in ("csv", "text")))
    return COMPRESSORS[dot + compression](content) if dot else content


def _parquet(rng: random.Random, table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=rng.choice((7, 64, 1000)),
        compression=rng.choice(("none", "snappy", "zstd", "gzip", "lz4", "brotli")),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
        data_page_size=rng.choice((100, 1 << 20)),
        write_page_index=rng.random() < 0.5,
        write_page_checksum=rng.random() < 0.2,
    )
    return sink.getvalue()


def _arrow(new: Callable[..., Any]) -> Callable[[random.Random, pa.Table], bytes]:
    def write(rng: random.Random, table: pa.Table) -> bytes:
        match rng.randrange(4):
            case 0:
                table = table.set_column(1, "text", table["text"].dictionary_encode())
            case 1:
                table = table.set_column(1, "text", table["text"].cast(pa.string_view()))
            case 2:
                table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=rng.choice((None, None, "lz4", "zstd")), unify_dictionaries=True)
        with new(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rng.choice((7, 64, 1000)))
        return sink.getvalue()

    return write


def _jsonl(rng: random.Random, table: pa.Table) -> bytes:
    return "".join(
        json.dumps(row, ensure_ascii=rng.random() < 0.5) + rng.choice(("\n", "\n", "\r\n", "\n\n"))
        for row in table.to_pylist()
    ).encode()


def _csv(rng: random.Random, table: pa.Table) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, table.column_names, lineterminator=rng.choice(("\n", "\r\n")))
    writer.writeheader()
    writer.writerows(table.to_pylist())
    return sink.getvalue().encode()


def _text(rng: random.Random, table: pa.Table) -> bytes:
    return "".join(f"{text}{rng.choice((chr(10), chr(13) + chr(10)))}" for text in table["text"].to_pylist()).encode()


_WRITERS: dict[str, Callable[[random.Random, pa.Table], bytes]] = {
    "parquet": _parquet,
    "arrow": _arrow(pa.ipc.new_file),
    "arrow-stream": _arrow(pa.ipc.new_stream),
    "jsonl": _jsonl,
    "csv": _csv,
    "text": _text,
}
_ENDINGS = {"parquet": ".parquet", "arrow": ".arrow", "arrow-stream": ".arrows", "text": ".txt"}


def file_name(kind: str, stem: str = "b-bad") -> str:
    """What a file of a format is called."""
    kind, dot, compression = kind.partition(".")
    return stem + _ENDINGS.get(kind, "." + kind) + dot + compression


def write_damaged(rng: random.Random, kind: str, folder: Path) -> None:
    """One damaged file, whose name at times does not tell the truth; compressed ones are damaged within, or without."""
    plain, dot, compression = kind.partition(".")
    if dot and rng.random() < 0.3:
        content = COMPRESSORS[dot + compression](damaged(rng, good_bytes(rng, plain)))
    else:
        content = damaged(rng, good_bytes(rng, kind))
    name = file_name(rng.choice(FORMATS) if rng.random() < 0.1 else kind)
    (folder / ("b-bad" if rng.random() < 0.05 else name)).write_bytes(content)
    if rng.random() < 0.8:  # else the damaged file is the one that tells the columns
        write_good(folder)


def write_schemas(rng: random.Random, folder: Path) -> None:
    """Several files that are whole, and do not agree on columns or types."""
    for place in range(3):
        table = rows(rng, 20)
        column = rng.choice(table.column_names)
        index = table.schema.get_field_index(column)
        other = rng.choice(_OTHER_COLUMNS)(rng, 20)
        match rng.randrange(5):
            case 0:
                table = table.drop_columns([column])
            case 1:
                table = table.append_column(column, other)  # its name comes twice
            case 2:
                table = table.rename_columns([f"{name}\0é" if name == column else name for name in table.column_names])
            case _:
                table = table.set_column(index, column, other)
        kind = rng.choice(("parquet", "arrow", "arrow-stream", "jsonl"))
        try:
            content = _WRITERS[kind](rng, table)
        except (pa.ArrowException, KeyError, TypeError, ValueError):  # a type that this format does not have
            content = b"{}\n"
        (folder / file_name(kind, f"b{place}")).write_bytes(content)
    write_good(folder)


_OTHER_COLUMNS: tuple[Callable[[random.Random, int], pa.Array], ...] = (
    lambda rng, n: pa.nulls(n),
    lambda rng, n: pa.array([rng.randbytes(9) for _ in range(n)], pa.binary()),
    lambda rng, n: pa.array([rng.random() for _ in range(n)]),
    lambda rng, n: pa.array([{"a": [{"b": rng.random()}]}] * n),
    lambda rng, n: pa.array([[str(rng.random())]] * n, pa.large_list(pa.large_string())),
    lambda rng, n: pa.array(["a", "b"] * (n // 2)).dictionary_encode(),
    lambda rng, n: pa.array(["a"] * n, pa.string_view()),
    lambda rng, n: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    lambda rng, n: pa.array([rng.randrange(10**9) for _ in range(n)], pa.timestamp("us", "UTC")),
    lambda rng, n: pa.array([1] * n, pa.decimal128(38, 9)),
    lambda rng, n: pa.array([None] * n, pa.list_(pa.float32(), 3)),
    lambda rng, n: pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), pa.array(["a"])),
)


def write_datasets(rng: random.Random, folder: Path) -> None:
    """A folder that `datasets` saved, with damage in one of its files."""
    datasets.disable_progress_bars()
    table = rows(rng, 60)
    saved = datasets.Dataset(table)
    whole = saved if rng.random() < 0.5 else datasets.DatasetDict(train=saved, test=saved)
    whole.save_to_disk(folder, num_shards=None if isinstance(whole, dict) else rng.choice((1, 3)))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice([file for file in files if rng.random() < 0.3 or file.suffix == ".json"] or files)
    if path.suffix == ".json" and rng.random() < 0.5:
        values: tuple[Any, ...] = (None, 7, "x", [], {}, [[]], {"_data_files": None}, {"_data_files": [7]},
            {"_data_files": [{"filename": None}]}, {"_data_files": [{"filename": "../state.json"}]},
            {"splits": 7}, {"splits": [None]}, {"splits": [""]}, {"splits": [".", "train"]})  # fmt: skip
        path.write_text(json.dumps(rng.choice(values)))
    elif rng.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(damaged(rng, path.read_bytes()))


def write_bomb(rng: random.Random, folder: Path) -> None:
    """A small file that is, or says that it is, a very large one."""
    name = choose_bomb(rng)
    with (folder / f"b-{name}").open("wb") as sink:
        BOMBS[name](rng, sink)
    write_good(folder)


def choose_bomb(rng: random.Random) -> str:
    return rng.choice(sorted(BOMBS))


def write_good(folder: Path) -> None:
    lines = [json.dumps({"id": row, "text": f"good {row}", "tags": ["a"]}) for row in range(GOOD_ROWS)]
    (folder / GOOD).write_text("\n".join(lines))


WRITERS: dict[str, Callable[[random.Random, Path], None]] = {
    **{kind: (lambda rng, folder, kind=kind: write_damaged(rng, kind, folder)) for kind in FORMATS},
    "schemas": write_schemas,
    "datasets": write_datasets,
    "bomb": write_bomb,
}
