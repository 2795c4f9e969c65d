"""Windows keep every row once and in order, with its error, inside the bounds."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reader import RawBatch
from pipeline.windows import windows

texts = st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=12)


def raw_batch(texts: list[str | None], first_row: int, *, pairs: bool, keep: bool) -> RawBatch:
    column = pa.array(texts, pa.large_string())
    ids = pa.record_batch({"id": pa.array(range(first_row, first_row + len(texts)), pa.int64())})
    return RawBatch(
        texts=column,
        pairs=column if pairs else None,
        kept=ids if keep else ids.select([]),
        errors={row: f"bad {first_row + row}" for row in range(0, len(texts), 3)},
        first_row=first_row,
    )


@given(
    batches=st.lists(texts, max_size=6),
    max_rows=st.integers(1, 9),
    max_bytes=st.integers(1, 40),
    pairs=st.booleans(),
    keep=st.booleans(),
)
def test_rows_come_out_once_in_order_and_within_bounds(
    batches: list[list[str | None]], max_rows: int, max_bytes: int, pairs: bool, keep: bool
) -> None:
    source, first_row = [], 0
    for batch in batches:
        source.append(raw_batch(batch, first_row, pairs=pairs, keep=keep))
        first_row += len(batch)

    rows: list[str | None] = []
    ids: list[int] = []
    errors: list[str] = []
    for window in windows(source, max_rows=max_rows, max_bytes=max_bytes):
        assert 0 < len(window.texts) <= max_rows
        size = sum(len((text or "").encode()) for text in window.texts.to_pylist()) * (2 if pairs else 1)
        assert size <= max_bytes or len(window.texts) == 1
        assert (window.pairs is not None) == pairs
        rows += window.texts.to_pylist()
        ids += window.kept.column("id").to_pylist() if keep else []
        errors += [window.errors[row] for row in sorted(window.errors)]

    assert rows == [text for batch in batches for text in batch]
    assert ids == (list(range(len(rows))) if keep else [])
    starts = [batch.first_row for batch in source]
    assert errors == [
        f"bad {start + row}" for start, batch in zip(starts, batches, strict=True) for row in range(0, len(batch), 3)
    ]
