"""Cutting files into units, and keeping the plan."""

from __future__ import annotations

import itertools
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import planner
from pipeline.errors import CommitConflict, StorageError
from pipeline.options import InputOptions
from pipeline.planner import BadFile, list_files, plan_units
from pipeline.plans import num_plans, read_plans, superseded, write_plan
from pipeline.storage import Storage
from pipeline.units import InputFile, Unit
from tests.support.corpora import WRITERS, planned


def write_lines(folder: Path, sizes: dict[str, int]) -> InputOptions:
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * (size - 1) + b"\n")
    return InputOptions(url=str(folder))


def shape(units: list[Unit]) -> list[list[tuple[str, int, int | None]]]:
    return [[(Path(p.file.url).name, p.start, p.stop) for p in unit.pieces] for unit in units]


def test_units_of_another_job_have_other_names(tmp_path: Path) -> None:
    """A worker of a job that was overwritten cannot commit in the place of ours."""
    (tmp_path / "a.txt").write_text("one\n")
    source = InputOptions(url=str(tmp_path))
    names = {
        next(plan_units(list_files(source), source, unit_bytes=100, job=job)).name  # type: ignore[union-attr]
        for job in ("one", "another")
    }
    assert len(names) == 2


def test_small_files_are_put_together_and_large_ones_cut(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {"a.txt": 30, "b.txt": 60, "c.txt": 20, "d.txt": 250, "e.txt": 10, "f.txt": 90})
    units, bad = planned(source, unit_bytes=100)
    assert not bad
    assert shape(units) == [
        [("a.txt", 0, 30), ("b.txt", 0, 60)],
        [("c.txt", 0, 20)],
        [("d.txt", 0, 83)],
        [("d.txt", 83, 166)],
        [("d.txt", 166, 250)],  # alone: a change of e.txt is none of its business
        [("e.txt", 0, 10), ("f.txt", 0, 90)],
    ]
    assert [unit.size_bytes for unit in units] == [90, 20, 83, 83, 84, 100]


def test_units_hold_one_format_only(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {"a.txt": 10, "b.csv": 10, "c.txt": 10, "d.txt": 10})
    units, _ = planned(source)
    assert [[name for name, _, _ in pieces] for pieces in shape(units)] == [["a.txt"], ["b.csv"], ["c.txt", "d.txt"]]


def test_a_unit_stays_small_however_small_the_files(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {f"{number:04d}.txt": 1 for number in range(2 * planner.MAX_PIECES + 1)})
    units, _ = planned(source)
    assert [len(unit.pieces) for unit in units] == [planner.MAX_PIECES, planner.MAX_PIECES, 1]
    assert max(len(pickle.dumps(unit)) for unit in units) < 20_000


def test_parquet_is_measured_by_its_text(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{number:1000d}" for number in range(100)], "wide": [b"x" * 9000] * 100})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10, use_dictionary=False, compression="none")
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=50_000)
    assert sum(unit.num_rows or 0 for unit in units) == 100
    assert 100_000 < sum(unit.size_bytes for unit in units) < 200_000
    assert all(unit.size_bytes <= 50_000 and len(unit.pieces) == 1 for unit in units)


def test_a_row_group_larger_than_a_unit_is_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 100] * 10}), tmp_path / "x.parquet", row_group_size=5)
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=1)
    assert shape(units) == [[("x.parquet", 0, 1)], [("x.parquet", 1, 2)]]


def test_compressed_files_count_for_what_they_hold(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        (tmp_path / name).write_bytes(b"x" * 40)
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=130)
    assert shape(units) == [[("a.jsonl.gz", 0, None)], [("b.jsonl.gz", 0, None)]]
    assert [unit.size_bytes for unit in units] == [120, 120]


def test_arrow_with_dictionaries_is_one_piece(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["a", "b"] * 500).dictionary_encode()})
    for name in ("x.arrow", "x.arrows"):
        (tmp_path / name).write_bytes(WRITERS[name](table))
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=100)
    assert shape(units) == [[("x.arrow", 0, None)], [("x.arrows", 0, None)]]
    assert [unit.num_rows for unit in units] == [1000, 1000]


def test_bad_files_are_told_between_the_units(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "other": ["b"]})
    for name in ("a.parquet", "c.parquet", "e.arrow"):
        (tmp_path / name).write_bytes(WRITERS["x" + Path(name).suffix](table))
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    pq.write_table(table.drop_columns("text"), tmp_path / "d.parquet")
    (tmp_path / "f.arrow").write_bytes((tmp_path / "e.arrow").read_bytes()[:-100])
    (tmp_path / "g.arrow").write_bytes(b"")
    (tmp_path / "h.txt").write_bytes(b"")
    units, bad = planned(InputOptions(url=str(tmp_path)))
    assert [[name for name, _, _ in pieces] for pieces in shape(units)] == [["a.parquet", "c.parquet"], ["e.arrow"]]
    assert [Path(file.file.url).name for file in bad] == ["b.parquet", "d.parquet", "f.arrow", "g.arrow"]
    assert "it has no column text; it has other." in bad[1].reason
    assert "it does not end with ARROW1: it is truncated" in bad[2].reason
    assert "it is empty" in bad[3].reason
    assert all(str(tmp_path) in file.reason for file in bad)


def test_a_file_that_goes_while_it_is_planned_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(WRITERS["x.parquet"](pa.table({"text": ["a"]})))
    source = InputOptions(url=str(tmp_path))
    files = list(list_files(source))
    (tmp_path / "a.parquet").unlink()
    (bad,) = plan_units(files, source, unit_bytes=100)
    assert isinstance(bad, BadFile)
    assert "is gone" in bad.reason


# Names.


def test_names_sort_in_input_order_and_tell_the_plan(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {f"{number}.txt": 100 for number in range(9)})
    units = list(plan_units(list_files(source), source, unit_bytes=100, plan_number=3))
    names = [unit.name for unit in units if isinstance(unit, Unit)]
    assert names == sorted(names)
    assert [re.fullmatch(r"00003-0000\d\d-[0-9a-f]{8}", name) is not None for name in names] == [True] * 9
    assert units[0].output_name == f"part-{names[0]}.parquet"


def test_the_same_input_gives_the_same_plan(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {f"{number}.txt": 70 for number in range(9)})
    assert planned(source, unit_bytes=100) == planned(source, unit_bytes=100)


def test_names_outlive_a_move_and_tell_a_change(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "here", {"a.txt": 50, "b.txt": 50})
    before = [unit.name for unit in planned(source, unit_bytes=50)[0]]
    shutil.move(tmp_path / "here", tmp_path / "there" / "here")
    moved = InputOptions(url=str(tmp_path / "there" / "here"))
    assert [unit.name for unit in planned(moved, unit_bytes=50)[0]] == before
    (tmp_path / "there" / "here" / "a.txt").write_bytes(b"other")
    changed = [unit.name for unit in planned(moved, unit_bytes=50)[0]]
    assert changed[0] != before[0]
    assert changed[1] == before[1]


# Streams.


def endless(file: InputFile) -> Iterator[InputFile]:
    for number in itertools.count():
        yield replace(file, url=f"{file.url}-{number}", fingerprint=str(number))


def test_planning_streams(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {"a.txt": 60})
    (file,) = list_files(source)
    units = plan_units(endless(file), source, unit_bytes=100)
    first: list[Any] = list(itertools.islice(units, 1000))
    assert len({unit.name for unit in first}) == 1000
    units.close()  # type: ignore[attr-defined]  # it is a generator, and its threads end with it


# Plans.


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.arrows", "c.jsonl.gz"):
        content = WRITERS["x" + name[1:]](pa.table({"text": [f"row {n}" for n in range(500)]}))
        (tmp_path / name).write_bytes(content)
    units, _ = planned(InputOptions(url=str(tmp_path)), unit_bytes=2000)
    output = Storage.open(str(tmp_path / "output"))
    assert (num_plans(output), list(read_plans(output, superseded(output)))) == (0, [])
    assert write_plan(output, 0, iter(units[1:])) == len(units) - 1
    assert write_plan(output, 1, units[:1]) == 1
    assert num_plans(output) == 2
    assert list(read_plans(output, superseded(output))) == units[1:] + units[:1]
    with pytest.raises(CommitConflict):
        write_plan(output, 1, units)


def test_a_plan_of_many_units_is_written_and_read_as_a_stream(tmp_path: Path) -> None:
    source = write_lines(tmp_path, {"a.txt": 60})
    (file,) = list_files(source)
    units = (u for u in plan_units(endless(file), source, unit_bytes=100) if isinstance(u, Unit))
    output = Storage.open(f"memory:/{tmp_path}/output")
    assert write_plan(output, 0, itertools.islice(units, 2500)) == 2500
    back = read_plans(output, superseded(output))
    assert next(back).name.startswith("00000-000000-")
    assert sum(1 for _ in back) == 2499


def test_a_damaged_plan_is_told(tmp_path: Path) -> None:
    output = Storage.open(str(tmp_path))
    output.write_bytes("_shardmill/plans/00000.plan", b"PAR1 or not")
    with pytest.raises(StorageError, match=r"00000\.plan cannot be read: the plan is damaged"):
        list(read_plans(output, superseded(output)))
