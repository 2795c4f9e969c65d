"""Proves on an output folder what always holds: every row is there once, in order, with the columns that were kept.

Part files and input are read side by side, a batch at a time; of the folder only the names of its parts are held, and
of the input as it is now some thirty bytes a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from pipeline.changes import changes
from pipeline.engine import EMPTY_TEXT, NULL_TEXT
from pipeline.errors import FileUnreadable, InputError, InputNotFound, ShardmillError, StorageNotFound
from pipeline.leftovers import LEFTOVER_AGE_S
from pipeline.listing import list_files
from pipeline.options import InputOptions
from pipeline.output import SPEC, SUCCESS, is_our_part
from pipeline.plans import read_plans
from pipeline.reader import RawBatch, read_unit
from pipeline.resume import Progress
from pipeline.spool import spooled
from pipeline.status import read_output_job
from pipeline.storage import Storage
from pipeline.units import Unit, part_name
from pipeline.writer import record_of

BATCH_ROWS = 4096
MAX_PROBLEMS = 10  # told of each check; all are counted

Outcome = Literal["passed", "failed", "noted", "skipped"]


@dataclass(slots=True, kw_only=True)
class Check:
    """One thing that must hold, what was looked at, and what contradicts it."""

    name: str
    num_checked: int = 0
    of: str = "unit"  # what is counted
    num_problems: int = 0
    problems: list[str] = field(default_factory=list)
    remark: str = ""  # why it could not be checked, or not for all
    is_news: bool = False  # about what has come since: a problem here is work for the next run, and no fault

    @property
    def outcome(self) -> Outcome:
        if self.num_problems:
            return "noted" if self.is_news else "failed"
        return "skipped" if self.remark and not self.num_checked else "passed"

    def fail(self, problem: str) -> None:
        self.num_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def expect(self, holds: bool, problem: str) -> None:
        self.num_checked += 1
        if not holds:
            self.fail(problem)


@dataclass(slots=True, kw_only=True)
class Verification:
    """The checks in the order in which they are shown, and the counts of what was read."""

    planned: Check = field(default_factory=lambda: Check(name="every input range is planned once", of="range"))
    complete: Check = field(default_factory=lambda: Check(name="every planned unit is committed or in quarantine"))
    owned: Check = field(default_factory=lambda: Check(name="every part file belongs to one unit", of="file"))
    whole: Check = field(default_factory=lambda: Check(name="every part file is whole and is what it says", of="file"))
    counts: Check = field(default_factory=lambda: Check(name="as many rows as the input has", of="count"))
    order: Check = field(default_factory=lambda: Check(name="kept columns equal the input's, in order", of="row"))
    results: Check = field(default_factory=lambda: Check(name="rows without a text have no result", of="row"))
    errors: Check = field(default_factory=lambda: Check(name="errors are counted rightly"))
    success: Check = field(
        default_factory=lambda: Check(name="_SUCCESS is there when all is done, and only then", of="file")
    )
    current: Check = field(
        default_factory=lambda: Check(name="the input has nothing new since it was planned", of="file", is_news=True)
    )
    may_be_deleted: list[str] = field(default_factory=list)  # paths in the folder that no reader needs
    num_units: int = 0
    num_compared: int = 0  # units whose rows were compared with the input's
    num_rows: int = 0
    num_empty: int = 0
    num_errors: int = 0
    num_quarantined: int = 0  # units, and rows on their own
    num_bad_files: int = 0  # in quarantine without a unit: they could not be planned

    @property
    def checks(self) -> tuple[Check, ...]:
        return (self.planned, self.complete, self.owned, self.whole, self.counts, self.order, self.results,
                self.errors, self.success, self.current)  # fmt: skip

    @property
    def passed(self) -> bool:
        return all(check.outcome != "failed" for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """How the input is read again."""

    text: str
    text_pair: str | None
    storage: Mapping[str, Any]


def verify_output(
    output: Storage,
    *,
    quick: bool = False,
    input_storage: Mapping[str, Any] | None = None,
    on_unit: Callable[[], Any] = lambda: None,
) -> Verification:
    """Checks an output folder against its own records, and against the input.

    Args:
        output: the folder; nothing is written there.
        quick: trust what the plans and the part files say of themselves; else both input and output are read whole.
        input_storage: options for the input's storage, where the environment does not say: secrets are not recorded.
        on_unit: called after each planned unit, for a display.

    Raises:
        InputNotFound: the folder is none of ours, or none of the input can be read again.
        StorageError: storage refused. What is wrong with one file is a problem that a check tells.
    """
    job = read_output_job(output)
    source = None if quick else _Source(text=job["text"], text_pair=job["text_pair"], storage=input_storage or {})
    keep = job["keep"]
    found = Verification()
    progress = Progress.of(output)
    strays = {*progress.committed, *progress.outdated}
    next_starts: dict[tuple[str, str], int | None] = {}  # by file and version: where its next range must begin
    for planned in read_plans(output, progress.superseded):
        _check_ranges(found.planned, planned, next_starts)
        for unit in progress.resolve(planned):
            found.num_units += 1
            found.complete.expect(progress.is_over(unit), f"unit {unit.name} is missing: run the job again")
            if progress.is_committed(unit.name):
                strays.discard(unit.name)
                _check_part(found, output, unit, source, keep)
            elif progress.is_over(unit):
                found.num_quarantined += 1
        on_unit()
    found.num_bad_files = len(progress.bad_files())
    if source is not None and found.whole.num_checked and not found.num_compared and found.counts.remark:
        raise InputNotFound(f"{found.counts.remark}. --quick checks what the output says of itself.")
    _check_strays(found, strays, progress.outdated)
    _check_success(found, output)
    old = time.time() - LEFTOVER_AGE_S
    # Unfinished uploads are no files: their path is the part that they were to become, which may be there.
    staged = (left for left in output.leftovers() if left.upload_id is None)
    found.may_be_deleted += [left.path for left in staged if left.begun_at < old]
    if source is not None:
        _check_news(found.current, output, progress, source)
    if quick:
        for check in (found.order, found.results, found.errors, found.current):
            check.remark = "not read, as --quick asks"
    elif not keep:
        found.order.remark = "the job keeps no column that could tell"
    return found


def _check_ranges(check: Check, unit: Unit, next_starts: dict[tuple[str, str], int | None]) -> None:
    for piece in unit.pieces:
        version = (piece.file.url, piece.file.fingerprint)
        expected = next_starts.get(version, 0)
        wanted = "nothing more" if expected is None else f"the range from {expected}"
        check.expect(
            piece.start == expected,
            f"unit {unit.name}: expected {wanted} of {piece.file.url}, found the range from {piece.start}",
        )
        next_starts[version] = piece.stop


def _check_strays(found: Verification, strays: Collection[str], outdated: Collection[str]) -> None:
    """`strays` are the names left over when every unit has found its part."""
    found.owned.num_checked = found.whole.num_checked + len(strays)  # all part files that there are
    doubled = set(outdated)
    for name in sorted(strays):
        file = part_name(name)
        if name in doubled:
            found.owned.fail(f"{file}: its rows are outdated, or in other parts too; the next run removes it")
        else:
            found.owned.fail(f"{file}: no plan has such a unit")
        if is_our_part(file):
            found.may_be_deleted.append(file)


def _check_news(check: Check, output: Storage, progress: Progress, source: _Source) -> None:
    """The input as it is now next to the plans."""
    if not output.exists(SPEC):
        check.remark = f"the folder has no {SPEC}, which says where the input lies"
        return
    with ExitStack() as stack:
        try:
            given = yaml.safe_load(output.read_bytes(SPEC))["input"]
            options = InputOptions(**given | {"storage": given["storage"] | source.storage})
            files = stack.enter_context(spooled(list_files(options)))
        except (ShardmillError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, ShardmillError) else f"{SPEC} is damaged"
            check.remark = f"the input cannot be listed: {why}".rstrip(".")
            return
        check.num_checked = len(files)
        try:
            changed = changes(output, progress, files)
        except InputError as error:  # as a run would end
            check.fail(str(error))
            return
        for file in changed.to_plan:
            check.fail(f"{file.url}: new or changed since it was planned; the next run takes it in")
        if changed.num_gone:
            check.fail(f"planned and no longer there: {changed.num_gone} files; the rows stay, --prune removes them")


def _check_success(found: Verification, output: Storage) -> None:
    finished = output.exists(SUCCESS)
    found.success.expect(
        finished == (not found.complete.num_problems),
        f"{SUCCESS} is there, but units are missing" if finished else f"no {SUCCESS}: run the job again to finish it",
    )


def _check_part(found: Verification, output: Storage, unit: Unit, source: _Source | None, keep: Sequence[str]) -> None:
    """One part file: its footer, and with `source` its rows."""
    found.whole.num_checked += 1
    try:
        with output.open_file(unit.output_name) as stream, pq.ParquetFile(stream) as part:
            record = _check_footer(found, unit, part, keep)
            if record is not None and source is not None:
                _check_rows(found, unit, part, record, source, keep)
    except (pa.ArrowException, OSError) as error:
        found.whole.fail(f"{unit.output_name}: cannot be read as Parquet ({type(error).__name__})")


def _check_footer(found: Verification, unit: Unit, part: pq.ParquetFile, keep: Sequence[str]) -> dict[str, Any] | None:
    """What the part says of itself, or None if it is not to be believed."""
    record = record_of(part)
    num_rows = part.metadata.num_rows
    wrong = []
    if record.get("unit") != unit.name:
        wrong.append(f"is of unit {record.get('unit')}" if record else "was not written by shardmill")
    elif record.get("num_rows") != num_rows:
        wrong.append(f"says {record.get('num_rows')} rows and has {num_rows}")
    elif _ranges(unit) != (record.get("pieces"), record.get("rows", [0, None])):
        wrong.append("was made from other input ranges than the plan says")
    missing = [name for name in (*keep, "error") if name not in part.schema_arrow.names]
    if missing:
        wrong.append(f"lacks the columns {', '.join(missing)}")
    if wrong:
        found.whole.fail(f"{unit.output_name}: {'; '.join(wrong)}")
        return None
    found.num_rows += num_rows
    found.num_empty += record.get("num_empty", 0)
    found.num_errors += record.get("num_errors", 0)
    expected = _num_rows(unit)
    if expected is not None:
        found.counts.expect(num_rows == expected, f"{unit.output_name}: {num_rows} rows, planned were {expected}")
    return record


def _num_rows(unit: Unit) -> int | None:
    """Rows of a unit, also of one that is some of its piece's; None where that cannot be told."""
    stop = unit.num_rows if unit.stop_row is None else unit.stop_row
    return None if stop is None else stop - unit.first_row


def _ranges(unit: Unit) -> tuple[list[dict[str, Any]], list[int | None]]:
    """What a unit is made of, as its part's own record says it."""
    pieces = [
        {"url": piece.file.url, "fingerprint": piece.file.fingerprint, "start": piece.start, "stop": piece.stop}
        for piece in unit.pieces
    ]
    return pieces, [unit.first_row, unit.stop_row]


def _check_rows(
    found: Verification,
    unit: Unit,
    part: pq.ParquetFile,
    record: dict[str, Any],
    source: _Source,
    keep: Sequence[str],
) -> None:
    """The rows of a part next to those that the input has now."""
    written = part.iter_batches(batch_size=BATCH_ROWS, columns=[*keep, "error"])
    kept = pa.schema([part.schema_arrow.field(name) for name in keep])
    row = num_extra = num_missing = num_empty = num_errors = 0
    try:
        for ours, theirs in side_by_side(written, _input_rows(unit, source, kept)):
            if ours is None or theirs is None:
                num_extra += 0 if ours is None else ours.num_rows
                num_missing += 0 if theirs is None else theirs.num_rows
                continue
            _compare_kept(found.order, unit, ours, theirs, row)
            _compare_results(found.results, unit, ours, theirs, row)
            empty = _is_empty_error(ours["error"])
            num_empty += _count(empty)
            num_errors += ours.num_rows - ours["error"].null_count - _count(empty)
            row += ours.num_rows
    except (FileUnreadable, StorageNotFound) as error:
        # Not the job's fault: since it ran, the input has changed or gone.
        for check in (found.counts, found.order, found.results):
            check.remark = f"not all input can be read again: {error}".rstrip(".")
        return
    found.num_compared += 1
    found.counts.expect(
        not num_extra and not num_missing,
        f"{unit.output_name}: {row + num_extra} rows, its input has {row + num_missing}",
    )
    found.errors.expect(
        (num_empty, num_errors) == (record.get("num_empty"), record.get("num_errors")) or bool(num_extra),
        f"{unit.output_name}: says {record.get('num_errors')} errors and {record.get('num_empty')} empty rows, "
        f"has {num_errors} and {num_empty}",
    )


def _compare_kept(check: Check, unit: Unit, ours: pa.RecordBatch, theirs: pa.RecordBatch, first_row: int) -> None:
    for name in ours.schema.names:
        if name != "error" and (place := first_difference(ours[name], theirs[name])) is not None:
            check.fail(f"{unit.output_name}: row {first_row + place}, column {name}: not what the input has there")
    check.num_checked += ours.num_rows if ours.num_columns > 1 else 0


def _compare_results(check: Check, unit: Unit, ours: pa.RecordBatch, theirs: pa.RecordBatch, first_row: int) -> None:
    """Rows that could not be parsed have some error, blank ones the error of being empty, and no others that."""
    parsed = pc.invert(theirs[_UNREADABLE])
    wrong = pc.or_(
        pc.and_(parsed, pc.xor(theirs[_BLANK], _is_empty_error(ours["error"]))),
        pc.and_(theirs[_UNREADABLE], ours["error"].is_null()),
    )
    for place in wrong.to_numpy(zero_copy_only=False).nonzero()[0].tolist():
        check.fail(f"{unit.output_name}: row {first_row + place}: `error` does not fit the input's text")
    check.num_checked += ours.num_rows


_BLANK, _UNREADABLE = "\0blank", "\0unreadable"  # names that no column of the input has


def _input_rows(unit: Unit, source: _Source, kept: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The kept columns of a unit's input, in the types of its part, and which rows have no text or cannot be parsed."""
    texts = [name for name in (source.text, source.text_pair) if name is not None and name not in kept.names]
    schema = pa.schema([*kept, *((name, pa.string()) for name in texts)])
    for batch in read_unit(
        unit,
        text=source.text,
        text_pair=source.text_pair,
        keep=kept.names,
        schema=schema,
        storage_options=source.storage,
    ):
        yield _with_marks(batch)


def _with_marks(batch: RawBatch) -> pa.RecordBatch:
    blank = pc.fill_null(pc.equal(pc.binary_length(pc.utf8_trim_whitespace(batch.texts)), 0), True)
    unreadable = np.zeros(len(batch.texts), dtype=bool)
    unreadable[list(batch.errors)] = True
    columns, names = batch.kept.columns, batch.kept.schema.names
    return pa.RecordBatch.from_arrays([*columns, blank, pa.array(unreadable)], [*names, _BLANK, _UNREADABLE])


def side_by_side(
    left: Iterable[pa.RecordBatch], right: Iterable[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
    """Cuts two streams of batches to the same lengths; when one has ended, the rest of the other comes with None."""
    lefts, rights = _not_empty(left), _not_empty(right)
    ours, theirs = next(lefts, None), next(rights, None)
    while ours is not None and theirs is not None:
        num_rows = min(ours.num_rows, theirs.num_rows)
        yield ours.slice(0, num_rows), theirs.slice(0, num_rows)
        ours = ours.slice(num_rows) if num_rows < ours.num_rows else next(lefts, None)
        theirs = theirs.slice(num_rows) if num_rows < theirs.num_rows else next(rights, None)
    while ours is not None:
        yield ours, None
        ours = next(lefts, None)
    while theirs is not None:
        yield None, theirs
        theirs = next(rights, None)


def _not_empty(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (batch for batch in batches if batch.num_rows)


def first_difference(ours: pa.Array, theirs: pa.Array) -> int | None:
    """The first place where two columns of equal length differ, or None. NaN equals NaN here."""
    if ours.type != theirs.type:
        theirs = theirs.cast(ours.type)
    if ours.equals(theirs):
        return None
    # Arrow holds NaN unlike itself, in nested values too; their texts are alike. Only batches that differ come here.
    pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
    return next((place for place, (one, other) in enumerate(pairs) if repr(one) != repr(other)), None)


def _is_empty_error(errors: pa.Array) -> pa.Array:
    return pc.fill_null(pc.is_in(errors, value_set=pa.array([NULL_TEXT, EMPTY_TEXT])), False)


def _count(flags: pa.Array) -> int:
    return int(pc.sum(flags, min_count=0).as_py())
