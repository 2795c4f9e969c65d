"""`verify` finds what is wrong with an output folder, and nothing wrong with a good one."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import output as layout
from pipeline.cutting import by_piece, halves
from pipeline.errors import InputNotFound
from pipeline.output import Quarantined
from pipeline.plans import write_plan
from pipeline.storage import Storage
from pipeline.verify import Verification, first_difference, side_by_side, verify_output
from tests.support.labelled import LabelledFolder, labelled_folder


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return labelled_folder(tmp_path)


def failed(found: Verification) -> set[str]:
    """Names of the failed checks, as fields of a `Verification`."""
    names = {id(getattr(found, name)): name for name in Verification.__slots__ if not name.startswith("num_")}
    return {names[id(check)] for check in found.checks if check.outcome == "failed"}


def test_a_good_folder_passes(folder: LabelledFolder) -> None:
    found = verify_output(folder.output)
    assert found.passed, [check.problems for check in found.checks]
    assert all(check.outcome == "passed" for check in found.checks)
    assert (found.num_units, found.num_rows, found.num_empty, found.num_errors) == (4, 40, 8, 0)
    assert (found.order.num_checked, found.counts.num_checked) == (40, 8)


def test_quick_trusts_the_records_and_reads_no_input(folder: LabelledFolder) -> None:
    for path in folder.root.glob("*.parquet"):
        path.unlink()
    found = verify_output(folder.output, quick=True)
    assert found.passed
    assert [check.outcome for check in (found.order, found.results, found.errors)] == ["skipped"] * 3


def _missing_part(folder: LabelledFolder) -> None:
    folder.part(1).unlink()


def _missing_part_and_success(folder: LabelledFolder) -> None:
    folder.part(1).unlink()
    folder.output.remove(layout.SUCCESS)


def _no_success(folder: LabelledFolder) -> None:
    folder.output.remove(layout.SUCCESS)


def _doubled_row(folder: LabelledFolder) -> None:
    rows = folder.rows(folder.units[2])
    folder.write_part(folder.units[2], pa.concat_tables([rows, rows.slice(9)]))


def _lost_row(folder: LabelledFolder) -> None:
    folder.write_part(folder.units[2], folder.rows(folder.units[2]).slice(0, 9))


def _swapped_rows(folder: LabelledFolder) -> None:
    rows = folder.rows(folder.units[2])
    folder.write_part(folder.units[2], rows.take([0, 1, 2, 3, 5, 4, 6, 7, 8, 9]))


def _changed_value(folder: LabelledFolder) -> None:
    rows = folder.rows(folder.units[3])
    weights = rows["weight"].to_pylist()
    weights[2] = 0.0
    folder.write_part(folder.units[3], rows.set_column(1, "weight", pa.array(weights)))


def _truncated_file(folder: LabelledFolder) -> None:
    folder.part(0).write_bytes(folder.part(0).read_bytes()[:-40])


def _damaged_inside(folder: LabelledFolder) -> None:
    content = bytearray(folder.part(0).read_bytes())
    content[4:80] = bytes(76)
    folder.part(0).write_bytes(content)


def _own_record_not_json(folder: LabelledFolder) -> None:
    table = folder.rows(folder.units[0]).replace_schema_metadata({layout.METADATA_KEY: b"no JSON"})
    pq.write_table(table, folder.part(0))


def _foreign_file(folder: LabelledFolder) -> None:
    shutil.copy(folder.part(0), folder.root / "out" / "part-00007-000000-abcdef01.parquet")


def _foreign_content(folder: LabelledFolder) -> None:
    pq.write_table(pa.table({"id": [1], "weight": [1.0], "error": ["x"]}), folder.part(0))


def _other_units_content(folder: LabelledFolder) -> None:
    shutil.copy(folder.part(1), folder.part(0))


def _other_ranges(folder: LabelledFolder) -> None:
    folder.write_part(folder.units[0], pieces=[])


def _column_gone(folder: LabelledFolder) -> None:
    folder.write_part(folder.units[0], folder.rows(folder.units[0]).drop_columns(["weight"]))


def _wrong_count_of_errors(folder: LabelledFolder) -> None:
    folder.write_part(folder.units[0], num_errors=2)


def _no_result_for_a_text(folder: LabelledFolder) -> None:
    rows = folder.rows(folder.units[2])
    errors = rows["error"].to_pylist()
    errors[0] = "text is empty"
    folder.write_part(folder.units[2], rows.set_column(3, "error", pa.array(errors)))


def _unit_and_its_part(folder: LabelledFolder) -> None:
    folder.write_part(by_piece(folder.units[3])[1])


def _planned_twice(folder: LabelledFolder) -> None:
    again = replace(folder.units[2], name="00001-000000-00000009")
    write_plan(folder.output, 1, [again])
    folder.write_part(again)


@pytest.mark.parametrize(
    ("damage", "expected", "words"),
    [
        (_missing_part, {"complete", "success"}, "00000-000001-00000001 is missing"),
        (_missing_part_and_success, {"complete"}, "run the job again"),
        (_no_success, {"success"}, "no _SUCCESS: run the job again"),
        (_doubled_row, {"counts"}, "11 rows, its input has 10"),
        (_lost_row, {"counts"}, "9 rows, its input has 10"),
        (_swapped_rows, {"order"}, "row 4, column id"),
        (_changed_value, {"order"}, "row 2, column weight"),
        (_truncated_file, {"whole"}, "cannot be read as Parquet"),
        (_damaged_inside, {"whole"}, "part-00000-000000-00000000.parquet: cannot be read as Parquet (OSError)"),
        (_own_record_not_json, {"whole"}, "not written by shardmill"),
        (_foreign_file, {"owned"}, "part-00007-000000-abcdef01.parquet: no plan has such a unit"),
        (_foreign_content, {"whole"}, "not written by shardmill"),
        (_other_units_content, {"whole"}, "is of unit 00000-000001"),
        (_other_ranges, {"whole"}, "other input ranges"),
        (_column_gone, {"whole"}, "lacks the columns weight"),
        (_wrong_count_of_errors, {"errors"}, "says 2 errors and 1 empty rows, has 0 and 1"),
        (_no_result_for_a_text, {"results"}, "row 0"),
        (_unit_and_its_part, {"owned"}, "its rows are outdated, or in other parts too"),
        (_planned_twice, {"planned"}, "expected nothing more of"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage_is_found_and_named(
    folder: LabelledFolder, damage: Callable[[LabelledFolder], None], expected: set[str], words: str
) -> None:
    damage(folder)
    found = verify_output(folder.output)
    assert failed(found) == expected
    assert not found.passed
    assert any(words in problem for check in found.checks for problem in check.problems)


def test_a_lost_row_is_found_by_the_records_alone_too(folder: LabelledFolder) -> None:
    _lost_row(folder)
    assert failed(verify_output(folder.output, quick=True)) == {"counts"}


def test_what_is_in_quarantine_is_not_missing(folder: LabelledFolder) -> None:
    _missing_part(folder)
    name = folder.units[1].name
    layout.write_quarantined(
        folder.output, Quarantined(name=name, urls=("a",), fingerprints=("f",), reason="truncated", attempts=3, at=0.0)
    )
    found = verify_output(folder.output)
    assert found.passed
    assert (found.num_quarantined, found.num_rows) == (1, 35)


def test_a_unit_cut_for_a_bad_file_counts_by_its_parts(folder: LabelledFolder) -> None:
    folder.part(3).unlink()
    good, bad = by_piece(folder.units[3])
    folder.write_part(good)
    assert failed(verify_output(folder.output)) == {"complete", "success"}
    layout.write_quarantined(
        folder.output, Quarantined(name=bad.name, urls=("d",), fingerprints=("f",), reason="?", attempts=1, at=0.0)
    )
    found = verify_output(folder.output)
    assert found.passed
    assert (found.num_units, found.num_quarantined, found.num_rows) == (5, 1, 30)


def test_input_that_has_changed_since_is_told_and_is_no_fault(folder: LabelledFolder) -> None:
    path = folder.root / "b.parquet"
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    found = verify_output(folder.output)
    assert found.passed
    assert "not all input can be read again" in found.order.remark
    assert found.order.num_checked == 30


def test_input_that_is_gone_cannot_be_compared(folder: LabelledFolder) -> None:
    (folder.root / "b.parquet").unlink()
    assert verify_output(folder.output).passed
    for path in folder.root.glob("*.parquet"):
        path.unlink()
    with pytest.raises(InputNotFound, match="--quick checks what the output says of itself"):
        verify_output(folder.output)


def test_order_cannot_be_told_without_kept_columns(folder: LabelledFolder) -> None:
    job = layout.read_job(folder.output) | {"keep": []}
    folder.output.write_bytes(layout.JOB, str(job).replace("'", '"').replace("None", "null").encode())
    found = verify_output(folder.output)
    assert found.passed
    assert found.order.outcome == "skipped"
    assert found.results.num_checked == 40


def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match=r"not an output folder of shardmill: there is no _shardmill/job\.json"):
        verify_output(Storage.open(str(tmp_path)))


def test_parts_of_a_units_rows_are_compared_with_those_rows(folder: LabelledFolder) -> None:
    unit = folder.units[2]
    first, rest = halves(unit, 10)
    bad, last = halves(rest, 2)
    rows = folder.rows(unit)
    folder.part(2).unlink()
    folder.write_part(first, rows.slice(0, 5))
    folder.write_part(last, rows.slice(6))
    layout.write_quarantined(folder.output, Quarantined.of_unit(bad, attempts=3, reason="?"))
    found = verify_output(folder.output)
    assert found.passed, [check.problems for check in found.checks]
    assert (found.num_units, found.num_rows, found.num_quarantined) == (6, 39, 1)
    folder.write_part(last, rows.slice(5, 4))  # not those that it should have
    assert "order" in failed(verify_output(folder.output))
    folder.write_part(replace(last, first_row=5), rows.slice(6))
    assert failed(verify_output(folder.output)) == {"whole"}
    folder.write_part(first, rows.slice(0, 4))
    assert "counts" in failed(verify_output(folder.output))


def test_parts_that_hold_for_nothing_are_named_and_may_be_deleted(folder: LabelledFolder) -> None:
    again = replace(folder.units[2], name="00001-000000-00000009")
    write_plan(folder.output, 1, [again], supersedes=[folder.units[2].name])
    folder.write_part(again)
    shutil.copy(folder.part(0), folder.root / "out" / "part-mine.parquet")
    found = verify_output(folder.output)
    assert failed(found) == {"owned"}
    assert found.may_be_deleted == [folder.units[2].output_name]  # the other is a stranger's
    folder.part(2).unlink()
    (folder.root / "out" / "part-mine.parquet").unlink()
    assert verify_output(folder.output).passed


def test_what_killed_writers_left_is_no_fault_and_may_be_deleted(folder: LabelledFolder) -> None:
    staged = folder.root / "out" / f".{folder.units[0].output_name}.0123abcd.staged"
    staged.write_bytes(b"half")
    assert verify_output(folder.output).may_be_deleted == []  # its writer may be alive
    os.utime(staged, (0, 0))
    found = verify_output(folder.output)
    assert found.passed
    assert found.may_be_deleted == [staged.name]


def test_input_that_came_since_is_told_and_is_no_fault(folder: LabelledFolder) -> None:
    assert verify_output(folder.output).current.outcome == "passed"
    shutil.copy(folder.root / "a.parquet", folder.root / "e.parquet")
    (folder.root / "b.parquet").unlink()
    found = verify_output(folder.output)
    assert found.passed
    assert found.current.outcome == "noted"
    new, gone = found.current.problems
    assert "e.parquet: new or changed since it was planned" in new
    assert gone == "planned and no longer there: 1 files; the rows stay, --prune removes them"
    assert verify_output(folder.output, quick=True).current.outcome == "skipped"


@pytest.mark.parametrize("spec", [None, b"input: [", b"name: x"])
def test_input_that_cannot_be_listed_is_remarked(folder: LabelledFolder, spec: bytes | None) -> None:
    folder.output.remove(layout.SPEC)
    if spec is not None:
        folder.output.write_bytes(layout.SPEC, spec)
    current = verify_output(folder.output).current
    assert (current.outcome, bool(current.remark)) == ("skipped", True)


def test_problems_are_counted_beyond_those_told(folder: LabelledFolder) -> None:
    rows = folder.rows(folder.units[3])
    folder.write_part(folder.units[3], rows.set_column(3, "error", pa.array(["text is empty"] * 20)))
    results = verify_output(folder.output).results
    assert (results.num_problems, len(results.problems)) == (16, 10)


def batches(*lengths: int) -> Iterator[pa.RecordBatch]:
    first = 0
    for length in lengths:
        yield pa.record_batch({"row": pa.array(range(first, first + length), pa.int64())})
        first += length


@pytest.mark.parametrize(
    ("left", "right"), [((3, 0, 4), (1, 6)), ((7,), (2, 2, 2, 1)), ((), ()), ((2,), (5,)), ((5,), (2,))]
)
def test_side_by_side_keeps_every_row_once(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    ours: list[int] = []
    theirs: list[int] = []
    for one, other in side_by_side(batches(*left), batches(*right)):
        if one is not None and other is not None:
            assert one.equals(other)
        ours += [] if one is None else one["row"].to_pylist()
        theirs += [] if other is None else other["row"].to_pylist()
    assert ours == list(range(sum(left)))
    assert theirs == list(range(sum(right)))


def test_differences() -> None:
    nan = float("nan")
    assert first_difference(pa.array([1.0, nan, None]), pa.array([1.0, nan, None])) is None
    assert first_difference(pa.array([1.0, nan]), pa.array([1.0, 2.0])) == 1
    assert first_difference(pa.array([[nan], []]), pa.array([[nan], []])) is None
    assert first_difference(pa.array([[nan], []]), pa.array([[nan], None])) == 1
    assert first_difference(pa.array(["a"], pa.string()), pa.array(["a"], pa.large_string())) is None
