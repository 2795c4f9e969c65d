"""One corpus that lies in files of every format, with rows of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa

from tests.support.corpora import WRITERS

FILES = ("a.parquet", "b.arrow", "c.arrows", "d.jsonl", "e.jsonl.gz", "f.jsonl.zst", "g.csv")
ROWS_PER_FILE = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Its rows have the columns `id`, which counts through all files, and `text`."""

    urls: list[str]  # a folder of files, and a folder that `datasets` saved
    texts: list[str | None]  # in the order in which a job reads them


def write_every_format(folder: Path) -> Corpus:
    """Writes the corpus under `folder`."""
    files, saved = folder / "files", folder / "saved"
    files.mkdir()
    texts: list[str | None] = []
    for name in FILES:
        table = rows(ROWS_PER_FILE, first_id=len(texts), with_nulls=not name.endswith(".csv"))
        (files / name).write_bytes(WRITERS["x" + name[1:]](table))
        texts += table["text"].to_pylist()
    table = rows(ROWS_PER_FILE, first_id=len(texts))
    datasets.Dataset(table).save_to_disk(saved)
    return Corpus(urls=[str(files), str(saved)], texts=texts + table["text"].to_pylist())


def rows(num_rows: int, *, first_id: int = 0, with_nulls: bool = True) -> pa.Table:
    """Rows with `id` and `text`: short texts, longer than the model, blank, null, with quotes and newlines."""
    return pa.table(
        {
            "id": range(first_id, first_id + num_rows),
            "text": pa.array([_text(first_id + row, with_nulls=with_nulls) for row in range(num_rows)], pa.string()),
        }
    )


def _text(number: int, *, with_nulls: bool) -> str | None:
    match number % 10:
        case 3:
            return None if with_nulls else ""
        case 5:
            return " \t "
        case 7:
            return f'He said "no", twice;\nthen: 東京, Łódź 😀 {number}'
        case 9 if number % 20 == 9:
            return f"Ada Lovelace met Charles Babbage in London, {number} times. " * 12
        case _:
            return f"Text {number} of Wolfgang Amadeus Mozart. " * (number % 4 + 1)
