"""One bad row costs one row: its place is kept, it says why, and never quotes the text."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import FileUnreadable, InputNotFound
from pipeline.formats import csv, lines
from pipeline.options import InputOptions
from pipeline.planner import input_schema, list_files
from tests.support.corpora import planned, read_units

SCHEMA = pa.schema([("text", pa.string()), ("id", pa.int64())])


def read(folder: Path, name: str, content: bytes, schema: pa.Schema = SCHEMA, **arguments: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(content)
    source = InputOptions(url=str(folder / name))
    units, bad = planned(source)
    assert not bad, bad
    return read_units(units, source, schema=schema, keep=[n for n in schema.names if n != "text"], **arguments)


def infer(folder: Path, name: str, content: bytes, *keep: str) -> dict[str, str]:
    (folder / name).write_bytes(content)
    source = InputOptions(url=str(folder / name))
    return {column.name: str(column.type) for column in input_schema(list_files(source), source, keep)}


def good(number: int) -> dict[str, Any]:
    return {"text": f"text {number}", "id": number, "error": None}


def bad(reason: str) -> dict[str, Any]:
    return {"text": None, "id": None, "error": reason}


GOOD = [b'{"text": "text 0", "id": 0}', b'{"text": "text 1", "id": 1, "more": {"x": [null]}}']


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"secret", "the line is not JSON: Expecting value at character 0"),
        (b'{"text": "secret', "the line is not JSON: Unterminated string starting at at character 9"),
        (b'{"text": "secret",}', "the line is not JSON: "),
        (b"null", "the line is JSON, but no object: found null"),
        (b"17", "the line is JSON, but no object: found a number"),
        (b'["secret"]', "the line is JSON, but no object: found a list"),
        (b'{"text": "secret"}{"text": "secret"}', "the line is not JSON: Extra data at character 18"),
        (b'{"text": "secret"}null', "the line is not JSON: Extra data at character 18"),
        (b'{"text": "secret \xff"}', "the row is not valid UTF-8: byte 17"),
        (b'{"text": "a", "other": "\xc3"}', "the row is not valid UTF-8: byte 24"),
        (b'{"text": "\\ud800 secret"}', "the column text holds half of a surrogate pair"),
        (b'{"text": "secret", "text": "secret"}', "the line is JSON that cannot be read as one row: "),
        (b'{"text": 1}', "the column text does not fit: expected string, found a number"),
        (b'{"text": {"secret": 1}}', "the column text does not fit: expected string, found an object"),
        (b'{"text": "a", "id": "secret"}', "the column id does not fit: expected int64, found a string"),
        (b'{"text": "a", "id": 1.5}', "the column id does not fit: expected int64, found a number"),
        (b'{"text": "a", "id": 99999999999999999999}', "the column id does not fit: expected int64, found a number"),
        (b'{"text": "a", "id": NaN}', "the column id does not fit: expected int64, found a number"),
    ],
    ids=lambda value: value[:24].decode(errors="replace") if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_json_line_costs_itself(line: bytes, reason: str, place: int, tmp_path: Path) -> None:
    content = [*GOOD[:place], line, *GOOD[place:]]
    found = read(tmp_path, "x.jsonl", b"\n".join(content))
    assert found.pop(place)["error"].startswith(reason)
    assert found == [good(0), good(1)]
    assert "secret" not in reason


def test_many_bad_lines_among_good_ones(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"text {n}", "id": n}) if n % 7 else "nonsense" for n in range(5000)]
    found = read(tmp_path, "x.jsonl", "\n".join(rows).encode(), batch_rows=100)
    reason = "the line is not JSON: Expecting value at character 0"
    assert found == [good(n) if n % 7 else bad(reason) for n in range(5000)]


def test_what_is_no_fault_in_json_lines(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + GOOD[0] + b"\r\n\n  \t\r\n  " + GOOD[1] + b"  \r\n{}\n" + b'{"id": null, "text": null}'
    nothing = {"text": None, "id": None, "error": None}
    assert read(tmp_path, "x.jsonl", content) == [good(0), good(1), nothing, nothing]


def test_a_json_array_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b' [\n{"text": "a"},\n{"text": "b"}]')
    source = InputOptions(url=str(tmp_path))
    _, (bad_file,) = planned(source)
    assert "it is one JSON array; JSON Lines has one object a line" in bad_file.reason
    with pytest.raises(FileUnreadable, match="one JSON array"):
        input_schema(list_files(source), source)


def test_types_are_inferred_from_the_lines_that_can_be_read(tmp_path: Path) -> None:
    rows = [
        b"nonsense",
        b"null",
        b'{"text": 17}',
        b'{"text": null, "n": 1, "when": "2026-01-01", "s": {"x": null}, "l": [1], "no": null, "deep": %s}'
        % (b"[" * 50_000 + b"]" * 50_000),
        b'{"text": null, "n": 1, "when": "2026-01-01", "s": {"x": null}, "l": [1], "no": null}',
        b'{"text": "a", "n": 1.5, "when": "later", "s": {"x": true, "when": "2026-01-01"}, "l": [1.5]}',
    ]
    found = infer(tmp_path, "x.jsonl", b"\n".join(rows) + b"\n", "n", "when", "s", "l", "no")
    assert found == {
        "text": "string",
        "n": "double",
        "when": "string",
        "s": "struct<x: bool, when: string>",
        "l": "list<item: double>",
        "no": "string",
    }


def test_a_file_without_a_good_line_has_no_schema_but_all_its_rows(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no row that can be read"):
        infer(tmp_path, "x.jsonl", b"nonsense\n\nmore\n")
    source = InputOptions(url=str(tmp_path))
    units, _ = planned(source)
    assert [row["error"] is not None for row in read_units(units, source)] == [True, True]


def test_bad_utf8_in_text_costs_its_line(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    found = read(tmp_path, "x.txt", b"\xef\xbb\xbfone\r\n\xff\xfe\n\n  \nlast \xc3\xa9", schema)
    assert [row["text"] for row in found] == ["one", None, "", "  ", "last é"]
    assert [row["error"] for row in found] == [None, "the row is not valid UTF-8: byte 0", None, None, None]


HEADER = b"id,text\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7", "the row has 1 values, the header 2"),
        (b"7,a,b", "the row has 3 values, the header 2"),
        (b"secret,a", "column id: its value is no int64"),
        (b"7,secret \xff", "column text: the row is not valid UTF-8"),
        (b'7,"secret', csv.UNCLOSED),
        (b'"7,secret', csv.UNCLOSED),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_csv_row_costs_itself(line: bytes, reason: str, place: int, tmp_path: Path) -> None:
    content = [b"0,text 0", b"1,text 1"]
    content.insert(place, line)
    found = read(tmp_path, "x.csv", HEADER + b"\n".join(content) + b"\n")
    assert {**found.pop(place)} == bad(reason)
    assert found == [good(0), good(1)]


def test_what_is_no_fault_in_csv(tmp_path: Path) -> None:
    content = (
        b'\xef\xbb\xbfid,"text",id2,id2\r\n0,"with ""quotes"", commas,\r\nand newlines",,\r\n\r\n\n'
        b'1,5" disk,x,"y"\n2,,"",\n3,"\xe6\xbc\xa2",NA,'
    )
    texts = ['with "quotes", commas,\r\nand newlines', '5" disk', "", "漢"]
    found = read(tmp_path, "x.csv", content)
    assert found == [{"text": text, "id": number, "error": None} for number, text in enumerate(texts)]


def test_csv_types_are_inferred_and_dates_stay_text(tmp_path: Path) -> None:
    content = b"text,n,when,no,f,b\na,1,2026-01-01,,0.5,true\nb,\xff,x\nc,2,2026-01-02,,1,false\n"
    found = infer(tmp_path, "x.csv", content, "n", "when", "no", "f", "b")
    assert found == {"text": "string", "n": "int64", "when": "string", "no": "string", "f": "double", "b": "bool"}


def test_a_csv_file_without_a_header_costs_itself(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="it has no header: it is empty"):
        infer(tmp_path, "x.csv", b"\n\n")


@pytest.mark.parametrize("block_bytes", [16, 1000, 4000])
@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.csv"])
def test_a_row_that_is_too_long_costs_itself(
    name: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, csv):
        monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 5000)
    write = {
        "x.jsonl": lambda text: json.dumps({"text": text}),
        "x.txt": str,
        "x.csv": lambda text: f'{text},"x"',
    }[name]
    texts = ["0" * 9999, "a" * 4900, "b" * 5001, "c", "d" * 99_999, "e" * 4900, "f" * 20_000]
    header = "text,other\n" if name == "x.csv" else ""
    content = (header + "\n".join(write(text) for text in texts)).encode()
    found = read(tmp_path, name, content, pa.schema([("text", pa.string())]))
    assert [row["text"] for row in found] == [text if len(text) < 5000 else None for text in texts]
    assert [row["error"] for row in found] == [None if len(text) < 5000 else lines.TOO_LONG for text in texts]


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.csv"])
def test_an_endless_row_is_not_held_in_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, csv):
        monkeypatch.setattr(module, "BLOCK_BYTES", 100_000)
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 1_000_000)
    content = b"text\n" + b"x" * 50_000_000 + b"\nlast\n"
    tracemalloc.start()
    try:
        found = read(tmp_path, name, content, pa.schema([("text", pa.string())]))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row["error"] for row in found][-2] == lines.TOO_LONG
    assert peak_bytes < 10_000_000


def test_a_file_of_a_byte_order_mark_has_no_rows(tmp_path: Path) -> None:
    for name in ("x.txt", "x.jsonl"):
        assert read(tmp_path, name, b"\xef\xbb\xbf", pa.schema([("text", pa.string())])) == []
