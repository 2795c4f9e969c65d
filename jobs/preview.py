"""The first rows' results, made in this process: what a job will give, before it is run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa

from jobs.spec import JobSpec
from pipeline.errors import InputNotFound
from pipeline.loading import load_engine
from pipeline.options import InputOptions
from pipeline.planner import BadFile, input_schema, list_files, plan_units
from pipeline.reader import RawBatch, read_piece
from pipeline.windows import windows

logger = logging.getLogger(__name__)

UNIT_BYTES = 16 << 20  # the rows and their order do not depend on it


def first_results(spec: JobSpec, num_rows: int) -> pa.Table:
    """Kept columns, text and results of the first rows of the input. Writes nothing.

    Raises:
        ShardmillError: as a run would.
        ModelError: the model cannot be loaded.
    """
    rows = next(windows(read_input(spec.input, spec.output.keep), max_rows=num_rows), None)
    if rows is None:
        raise InputNotFound(f"{', '.join(spec.input.url)}: there are no rows to preview")
    # Only now the model: a mistake in the input shows at once.
    engine = load_engine(spec.model, spec.task, spec.workers)
    window = engine.encode(rows.texts, rows.pairs, errors=rows.errors)
    results = engine.decode(window, engine.forward(window)).columns
    columns = dict(zip(rows.kept.schema.names, rows.kept.columns, strict=True))
    columns.setdefault(spec.input.text, rows.texts)
    columns |= dict(zip(results.schema.names, results.columns, strict=True))
    return pa.table(columns)


def read_input(source: InputOptions, keep: Sequence[str] = ()) -> Iterator[RawBatch]:
    """The input's rows in the order in which a run takes them; files that cannot be planned are left out."""
    files = list(list_files(source))
    schema = input_schema(files, source, keep)
    for unit in plan_units(files, source, unit_bytes=UNIT_BYTES):
        if isinstance(unit, BadFile):
            logger.warning("left out %s: %s", unit.file.url, unit.reason)
            continue
        for piece in unit.pieces:
            yield from read_piece(
                piece,
                text=source.text,
                text_pair=source.text_pair,
                keep=keep,
                schema=schema,
                storage_options=source.storage,
            )
