"""One case: files made from a seed, put through what a run does with them, and how that ended."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.errors import FileUnreadable, ShardmillError
from pipeline.options import InputOptions
from pipeline.planner import BadFile, input_schema, list_files, plan_units
from pipeline.reader import read_piece
from pipeline.units import Piece
from pipeline.windows import windows
from pipeline.writer import PartWriter
from tests.fuzz import inputs, records

KINDS = (*inputs.WRITERS, *records.KINDS)

# The ends that are allowed. Anything else is a finding, and named after the exception.
ROWS = "rows"  # all could be read, some perhaps with an error of their own
QUARANTINE = "quarantine"  # a file is given up, when planned or when read
REFUSED = "refused"  # the run, or the command, ends with an error of ours

_MAX_ROWS = 3_000_000  # of one file: what a bomb has beyond that is as the rest, and is left
_MAX_DECODED = 1 << 20  # texts longer than this are not made Python strings, which tokenizers do one at a time


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    kind: str
    message: str = ""


def kind_of(seed: int) -> str:
    """What a seed damages: all kinds in turn, so that any range of seeds has all."""
    return KINDS[seed % len(KINDS)]


def bomb_of(seed: int) -> str | None:
    """Which bomb a seed writes, if that is its kind."""
    return inputs.choose_bomb(random.Random(seed)) if kind_of(seed) == "bomb" else None


def write_case(seed: int, folder: Path) -> None:
    """Makes the files of a case."""
    rng = random.Random(seed)
    kind = kind_of(seed)
    if kind in records.KINDS:
        records.write_folder(rng, kind, folder)
    else:
        inputs.WRITERS[kind](rng, folder)


def run_case(seed: int, folder: Path) -> End:
    """Does with the files of a case what a run would.

    Raises:
        Exception: whatever is not ours: a finding.
        Broken: one file's damage has reached another file.
    """
    if kind_of(seed) in records.KINDS:
        return _read_records(folder)
    rng = random.Random(f"{seed} read")
    kept = {"bomb": (), "text": (), "csv": ("id",)}.get(kind_of(seed).partition(".")[0], inputs.KEPT)
    options = InputOptions(url=str(folder), text_pair="tags" if "tags" in kept and rng.random() < 0.02 else None)
    keep = [column for column in kept if rng.random() < 0.5]
    try:
        return _read_inputs(options, keep, unit_bytes=rng.choice((500, 20_000, 1 << 30)))
    except ShardmillError as error:
        return End(kind=REFUSED, message=f"{type(error).__name__}: {error}")


def _read_records(folder: Path) -> End:
    end = End(kind=ROWS)
    for step in records.read_folder(folder):
        try:
            step()
        except ShardmillError as error:
            end = End(kind=REFUSED, message=f"{type(error).__name__}: {error}")
    return end


def _read_inputs(options: InputOptions, keep: list[str], unit_bytes: int) -> End:
    end = End(kind=ROWS)
    schema = input_schema(list_files(options), options, keep)
    good_rows = 0
    for unit in plan_units(list_files(options), options, unit_bytes=unit_bytes):
        if isinstance(unit, BadFile):
            end = End(kind=QUARANTINE, message=unit.reason)
            continue
        for piece in unit.pieces:
            try:
                num_rows = _read(piece, options, keep, schema)
            except FileUnreadable as error:
                end = End(kind=QUARANTINE, message=str(error))
                num_rows = 0
            good_rows += num_rows if piece.file.url.endswith(inputs.GOOD) else 0
    if good_rows not in (0, inputs.GOOD_ROWS) or (good_rows == 0 and _has_good(options)):
        raise Broken(f"{good_rows} of {inputs.GOOD_ROWS} rows of the undamaged file")
    return end


def _has_good(options: InputOptions) -> bool:
    return (Path(options.url[0]) / inputs.GOOD).exists()


def _read(piece: Piece, options: InputOptions, keep: list[str], schema: pa.Schema) -> int:
    """Reads a piece as a replica does, makes strings of the texts as tokenizers do, and writes what is kept."""
    writer = PartWriter(
        pa.schema([schema.field(name) for name in keep] + [pa.field("error", pa.string())]),
        Path(tempfile.gettempdir()),
        compression="zstd",
    )
    try:
        batches = read_piece(
            piece,
            text=options.text,
            text_pair=options.text_pair,
            keep=keep,
            schema=schema,
            storage_options=options.storage,
        )
        for batch in windows(batches):
            for texts in (batch.texts, batch.pairs):
                for text in _strings(texts):
                    text.encode()
            errors = pa.array([batch.errors.get(row) for row in range(len(batch.texts))], pa.string())
            writer.write(pa.RecordBatch.from_arrays([*batch.kept.columns, errors], schema=writer._schema))
            if writer.num_rows > _MAX_ROWS:
                break
        writer.close({})
        return writer.num_rows
    finally:
        writer.discard()


def _strings(texts: pa.LargeStringArray | None) -> Iterator[str]:
    """Texts one by one; of long ones only that they are whole is looked at, not every letter."""
    for text in () if texts is None else texts:
        if text.is_valid and text.as_buffer().size <= _MAX_DECODED:
            yield text.as_py()
