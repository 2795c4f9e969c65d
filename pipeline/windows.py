"""Regrouping what readers give into windows: enough rows to sort by length, few enough to bound memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reader import RawBatch

WINDOW_ROWS = 4096
WINDOW_BYTES = 4 << 20  # of text: about a million tokens


def windows(
    batches: Iterable[RawBatch], *, max_rows: int = WINDOW_ROWS, max_bytes: int = WINDOW_BYTES
) -> Iterator[RawBatch]:
    """Joins small batches and cuts large ones, so that each has at most `max_rows` rows and `max_bytes` of text.

    A single row larger than that is a window of its own. Order is kept.
    """
    held: list[RawBatch] = []
    rows = size = 0
    for batch in batches:
        for piece, piece_bytes in _cut(batch, max_rows, max_bytes):
            if held and (rows + len(piece.texts) > max_rows or size + piece_bytes > max_bytes):
                yield _join(held)
                held, rows, size = [], 0, 0
            held.append(piece)
            rows += len(piece.texts)
            size += piece_bytes
    if held:
        yield _join(held)


def _text_bytes(batch: RawBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    total = np.zeros(len(batch.texts), dtype=np.int64)
    for column in (batch.texts, batch.pairs):
        if column is not None:
            total += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return total


def _cut(batch: RawBatch, max_rows: int, max_bytes: int) -> Iterator[tuple[RawBatch, int]]:
    ends = np.cumsum(_text_bytes(batch))
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        fits = int(np.searchsorted(ends, before + max_bytes, side="right"))
        stop = min(max(fits, start + 1), start + max_rows)
        yield batch.slice(start, stop), int(ends[stop - 1]) - before
        start = stop


def _join(batches: list[RawBatch]) -> RawBatch:
    if len(batches) == 1:
        return batches[0]
    errors: dict[int, str] = {}
    shift = 0
    for batch in batches:
        errors |= {row + shift: reason for row, reason in batch.errors.items()}
        shift += len(batch.texts)
    pairs = [batch.pairs for batch in batches if batch.pairs is not None]
    return RawBatch(
        texts=pa.concat_arrays([batch.texts for batch in batches]),
        pairs=pa.concat_arrays(pairs) if pairs else None,
        kept=pa.concat_batches([batch.kept for batch in batches]),
        errors=errors,
        first_row=batches[0].first_row,
    )
