"""Makes a corpus of mixed lengths for benchmarks, a block of rows at a time.

    python tests/bench/mixed_corpus.py --rows 200000 --output /tmp/corpus --files 8 --format parquet

Columns: `id` (int64, counts through all files), `source` (string), `text` (string). Lengths in characters are
log-normal: half of the rows are shorter than `MEDIAN_CHARS`, some are several times as long as any model takes. A few
rows are null, empty, in other scripts or very long. The same arguments give the same rows, however they are cut into
files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BLOCK_ROWS = 8192  # made and written at a time, and a row group or record batch
MEDIAN_CHARS = 250.0
SIGMA = 1.0  # of the logarithm of the length
MAX_CHARS = 20_000
VERY_LONG_CHARS = 100_000
SHARES = {"null": 0.002, "empty": 0.002, "blank": 0.001, "other scripts": 0.02, "very long": 0.0001}

SCHEMA = pa.schema([("id", pa.int64()), ("source", pa.string()), ("text", pa.string())])
SYLLABLES = (
    "ba", "co", "da", "el", "fi", "gra", "ha", "in", "jo", "ka", "lu", "mer", "na", "or", "pa", "qui", "ro", "sta",
    "te", "un", "va", "wes", "xi", "yo", "zen", "tion", "ment", "able",
)  # fmt: skip
NAMES = ("Ada Lovelace", "Charles Babbage", "Wolfgang Amadeus Mozart", "London", "Salzburg", "Acme Ltd")
OTHER_SCRIPTS = (
    "東京は日本の首都です。", "Москва — столица России.", "Über den Wolken: naïve cafés, Łódź.", "مرحبا بالعالم",
    "नमस्ते दुनिया", "😀🚀👩‍👩‍👧‍👦 emoji 🏳️‍🌈",
)  # fmt: skip


Write = Callable[[pa.RecordBatch], object]


def main() -> None:
    arguments = _parse_arguments()
    begun = time.perf_counter()
    arguments.output.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    blocks = corpus(arguments.rows, seed=arguments.seed)
    held = next(blocks, None)
    bounds = [arguments.rows * file // arguments.files for file in range(arguments.files + 1)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        path = arguments.output / f"corpus-{number:05d}.{arguments.format}"
        num_left = stop - start
        with WRITERS[arguments.format](path) as write:
            while num_left and held is not None:
                taken = held.slice(0, num_left)
                write(taken)
                num_left -= taken.num_rows
                held = held.slice(taken.num_rows) if taken.num_rows < held.num_rows else next(blocks, None)
        num_bytes += path.stat().st_size
    print(
        f"{arguments.output}: {arguments.rows:,} rows in {arguments.files} {arguments.format} files, "
        f"{num_bytes / 1e6:.1f} MB, in {time.perf_counter() - begun:.1f} s"
    )


def corpus(num_rows: int, *, seed: int = 0) -> Iterator[pa.RecordBatch]:
    """The rows, in blocks of at most `BLOCK_ROWS`; the first rows do not depend on how many there are."""
    words = _vocabulary(np.random.default_rng(seed))
    for first in range(0, num_rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, num_rows - first)
        yield _block(words, first, np.random.default_rng((seed, first))).slice(0, size)


def _vocabulary(random: np.random.Generator) -> list[str]:
    """Words of one to four syllables, the names among them."""
    syllables = np.array(SYLLABLES)
    made = ["".join(random.choice(syllables, random.integers(1, 5))) for _ in range(5000)]
    return made + list(NAMES) * 20


def _block(words: list[str], first: int, random: np.random.Generator) -> pa.RecordBatch:
    """`BLOCK_ROWS` rows: each text is a slice of one long stream of words."""
    stream = " ".join(np.array(words)[random.integers(0, len(words), 60_000)].tolist())
    lengths = np.minimum(random.lognormal(np.log(MEDIAN_CHARS), SIGMA, BLOCK_ROWS), MAX_CHARS).astype(np.int64) + 1
    starts = random.integers(0, len(stream) - MAX_CHARS - 1, BLOCK_ROWS)
    texts: list[str | None] = [
        stream[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    for kind, share in SHARES.items():
        for row in np.flatnonzero(random.random(BLOCK_ROWS) < share).tolist():
            texts[row] = _special(kind, stream, random)
    sources = pa.DictionaryArray.from_arrays(
        pa.array(random.integers(0, 4, BLOCK_ROWS), pa.int32()), pa.array(["web", "news", "mail", "books"])
    )
    ids = pa.array(np.arange(first, first + BLOCK_ROWS))
    return pa.RecordBatch.from_arrays([ids, sources.cast(pa.string()), pa.array(texts, pa.string())], schema=SCHEMA)


def _special(kind: str, stream: str, random: np.random.Generator) -> str | None:
    match kind:
        case "null":
            return None
        case "empty":
            return ""
        case "blank":
            return " \t "
        case "other scripts":
            return " ".join(OTHER_SCRIPTS[place] for place in random.integers(0, len(OTHER_SCRIPTS), 8))
        case _:
            return (stream * 2)[:VERY_LONG_CHARS]


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        yield writer.write_batch


@contextmanager
def _arrow(path: Path) -> Iterator[Write]:
    with pa.ipc.new_file(path, SCHEMA) as writer:
        yield writer.write_batch


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.to_pylist())


WRITERS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "jsonl": _jsonl,
}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes a corpus of mixed lengths for benchmarks.")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--format", choices=WRITERS, default="parquet")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
