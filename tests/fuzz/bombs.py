"""Small files that are, or claim to be, very large; what is in them is made while they are written."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

CHUNK = 1 << 20
MEBIBYTES = 150  # that a line bomb expands to: beyond every bound, and quick enough to be read often

Bomb = Callable[[random.Random, BinaryIO], None]

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda sink: gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1),
    ".zst": lambda sink: zstandard.ZstdCompressor(level=1).stream_writer(sink, closefd=False),
}
_HEADS = {"jsonl": b'{"id": 1, "tags": [], "text": "', "csv": b"id,text,tags\n1,", "txt": b""}
_FILLINGS = (b"x", b"\0", b" ", b"\xff", b"[", b'{"text":', "é".encode())


def _line_bomb(kind: str, ending: str) -> Bomb:
    """One line of some hundred MiB, at times with a row behind it, at times of brackets or in an open quote."""

    def write(rng: random.Random, sink: BinaryIO) -> None:
        compress = COMPRESSORS[ending]
        filling = rng.choice(_FILLINGS)
        chunk = compress(filling * (CHUNK // len(filling)))
        sink.write(compress(_HEADS[kind] + (b'"' if kind == "csv" and rng.random() < 0.5 else b"")))
        for _ in range(
            MEBIBYTES
        ):  # streams one after another are one file; compressing all would take longer than this
            sink.write(chunk)
        sink.write(compress(rng.choice((b"", b'\n{"text": "after", "id": 2}\n'))))

    return write


def _row_bomb(kind: str, ending: str) -> Bomb:
    """A great many rows of next to nothing."""

    def write(rng: random.Random, sink: BinaryIO) -> None:
        row = rng.choice((b"\n", b"a\n", b"{}\n", b'""\n', b"\xff\n", b",,\n", b"\r\n", b'"\n'))
        chunk = row * (CHUNK // len(row))
        with _OPENERS[ending](sink) as file:
            file.write(_HEADS[kind])
            for _ in range(rng.choice((1, 3))):
                file.write(chunk)

    return write


def _late_quote(rng: random.Random, sink: BinaryIO) -> None:
    """A quote that is closed after 60 MiB, with millions of rows behind it."""
    with _OPENERS[".gz"](sink) as file:
        file.write(b'id,text,tags\n1,"')
        for _ in range(rng.choice((5, 60))):
            file.write(b"x" * CHUNK)
        file.write(b'",\n')
        for _ in range(5):
            file.write(b"1,,\n" * (CHUNK // 4))


def _wide_rows(rng: random.Random, sink: BinaryIO) -> None:
    """JSON objects with keys without end, or one key after another in every row."""
    with _OPENERS[".gz"](sink) as file:
        if rng.random() < 0.5:
            file.write(json.dumps({"id": 1, "text": "a"} | {f"k{key}": key for key in range(20_000)}).encode())
        else:
            for row in range(3000):
                file.write(json.dumps({"id": row, "text": "a", f"k{row}": {f"{row}": [row]}}).encode() + b"\n")


def _parquet_dictionary(rng: random.Random, sink: BinaryIO) -> None:
    """One long value, once in the dictionary and in every row."""
    length = rng.choice((1 << 10, 1 << 18, 1 << 20, 30 << 20))
    num_rows = rng.choice((100, 5000))
    indices = pa.array([0] * num_rows, pa.int32())
    text = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * length], pa.string()))
    table = pa.table({"id": pa.array(range(num_rows), pa.int64()), "text": text, "tags": [["a"]] * num_rows})
    pq.write_table(table, sink, compression="zstd", use_dictionary=True, dictionary_pagesize_limit=1 << 28)


def _parquet_page(rng: random.Random, sink: BinaryIO) -> None:
    """Long values that compress to nothing."""
    length = rng.choice((1 << 20, 20 << 20))
    table = pa.table({"id": list(range(10)), "text": ["x" * length] * 10, "tags": [["a"]] * 10})
    pq.write_table(table, sink, compression=rng.choice(("zstd", "gzip", "brotli")), use_dictionary=False)


def _parquet_nulls(rng: random.Random, sink: BinaryIO) -> None:
    """Millions of nulls in a few bytes."""
    num_rows = 20_000_000
    pq.write_table(pa.table({"text": pa.nulls(num_rows, pa.string())}), sink, row_group_size=num_rows)


def _parquet_columns(rng: random.Random, sink: BinaryIO) -> None:
    """More columns than anybody needs."""
    table = pa.table({"id": [1], "text": ["a"], "tags": [["a"]]} | {f"c{place}": [place] for place in range(20_000)})
    pq.write_table(table, sink)


def _parquet_depth(rng: random.Random, sink: BinaryIO) -> None:
    """A schema of groups in groups, written by hand: no library writes one."""
    depth = rng.choice((50, 99, 200, 20_000, 300_000))
    group = (
        b"\x35\x02\x18\x04text\x15\x02\x00"  # a SchemaElement in Thrift's compact protocol: repetition, name, children
    )
    leaf = b"\x15\x0c\x25\x02\x18\x04text\x00"  # ... type, repetition, name
    count = depth + 1
    size = b""
    while count > 0x7F:
        size, count = size + bytes([count & 0x7F | 0x80]), count >> 7
    footer = b"\x15\x02\x19\xfc" + size + bytes([count]) + group * depth + leaf + b"\x16\x00\x19\x0c\x00"
    sink.write(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")


def _arrow_batch(rng: random.Random, sink: BinaryIO) -> None:
    """A record batch that is compressed a thousandfold."""
    num_rows = rng.choice((10, 600, 3000))
    offsets = np.arange(num_rows + 1) * CHUNK
    zeros = np.zeros(num_rows * CHUNK, np.uint8)
    text = pa.LargeStringArray.from_buffers(num_rows, pa.py_buffer(offsets), pa.py_buffer(zeros))
    table = pa.table({"id": list(range(num_rows)), "text": text, "tags": [["a"]] * num_rows})
    options = pa.ipc.IpcWriteOptions(compression=rng.choice(("zstd", "lz4")))
    with rng.choice((pa.ipc.new_file, pa.ipc.new_stream))(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def _arrow_dictionary(rng: random.Random, sink: BinaryIO) -> None:
    """One long value in a dictionary, and in every row."""
    num_rows = rng.choice((100, 100_000))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), pa.array(["x" * CHUNK]))
    table = pa.table({"id": list(range(num_rows)), "text": text, "tags": [["a"]] * num_rows})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _arrow_view(rng: random.Random, sink: BinaryIO) -> None:
    """String views that all show the same long value."""
    num_rows = 2000
    views = struct.pack("<i4sii", CHUNK, b"xxxx", 0, 0) * num_rows
    buffers = [None, pa.py_buffer(views), pa.py_buffer(b"x" * CHUNK)]
    text = pa.Array.from_buffers(pa.string_view(), num_rows, buffers)
    table = pa.table({"id": list(range(num_rows)), "text": text, "tags": [["a"]] * num_rows})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _arrow_nothing(rng: random.Random, sink: BinaryIO) -> None:
    """Rows of nulls, which take no bytes at all, as many as can be counted."""
    batch = pa.RecordBatch.from_arrays([pa.nulls(rng.choice((10_000_000, (1 << 31) - 1)))], ["text"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _nested_gzip(rng: random.Random, sink: BinaryIO) -> None:
    inner = io.BytesIO()
    _line_bomb("txt", ".gz")(rng, inner)
    sink.write(gzip.compress(inner.getvalue()))


BOMBS: dict[str, Bomb] = {
    **{f"line.{kind}{ending}": _line_bomb(kind, ending) for kind in _HEADS for ending in COMPRESSORS},
    **{f"rows.{kind}{ending}": _row_bomb(kind, ending) for kind in _HEADS for ending in _OPENERS},
    "quote.csv.gz": _late_quote,
    "wide.jsonl.gz": _wide_rows,
    "dictionary.parquet": _parquet_dictionary,
    "page.parquet": _parquet_page,
    "nulls.parquet": _parquet_nulls,
    "columns.parquet": _parquet_columns,
    "depth.parquet": _parquet_depth,
    "batch.arrow": _arrow_batch,
    "dictionary.arrow": _arrow_dictionary,
    "view.arrow": _arrow_view,
    "nothing.arrow": _arrow_nothing,
    "nested.txt.gz": _nested_gzip,
}
