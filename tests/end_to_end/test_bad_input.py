"""What goes wrong in practice: each with its exit code, a message that helps, and at the least possible cost."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.output import quarantined
from pipeline.storage import Storage
from tests.support.corpora import WRITERS
from tests.support.every_format import rows
from tests.support.finished import assert_verified, parts_of, rows_of
from tests.support.s3 import S3Bucket, running_s3

SECRET = "hunter2-of-the-store"
IN_THE_CORPUS = "Mozart"
BAD_FILES = {"b.parquet", "e1.jsonl.gz", "f.parquet"}  # of `mixed`


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An input folder with one good file."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    pq.write_table(rows(20), folder / "a.parquet")
    return folder


def shardmill(command: str, spec: dict[str, Any], tmp_path: Path) -> Result:
    """The command on a job file; in this process, so that it finds the cluster of these tests."""
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(spec))  # which is YAML too
    return CliRunner().invoke(app, [command, str(job)])


def spec_of(folder: Path, model: Path, **changes: Any) -> dict[str, Any]:
    """A good job; `changes` are `section__key=value`."""
    spec: dict[str, Any] = {
        "name": "bad-input",
        "input": {"url": str(folder)},
        "output": {"url": str(folder.parent / "out"), "keep": ["id"]},
        "model": {"path": str(model)},
        "task": {"type": "ner"},
    }
    for place, value in changes.items():
        section, _, key = place.partition("__")
        spec[section][key] = value
    return spec


def assert_explained(ended: Result, exit_code: int, words: str) -> None:
    """It ended with a message for a person, who is told nothing that is not theirs to see."""
    assert ended.exit_code == exit_code, ended.stdout + ended.stderr
    assert re.search(words, ended.stderr, re.DOTALL), ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ") or "\n  " in ended.stderr
    for text in (ended.stdout, ended.stderr):
        assert "Traceback" not in text
        assert IN_THE_CORPUS not in text
        assert SECRET not in text


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("prepare", "changes", "words"),
    [
        (lambda f: shutil.rmtree(f), {}, r"no such file or folder, or nothing in it: .*corpus"),
        (lambda f: None, {"input__url": "{folder}/*.jsonl"}, r"nothing matches .*corpus/\*\.jsonl"),
        (lambda f: None, {"input__text": "txet"}, r"no column 'txet' .*has: id, text.*Did you mean 'text'"),
        (lambda f: None, {"output__keep": ["idd"]}, r"no column 'idd' .*has: id, text.*Did you mean 'id'"),
        (lambda f: None, {"input__text": "id"}, r"'id'.*int64"),
        (lambda f: _truncate(f / "a.parquet"), {}, r"a\.parquet cannot be read as parquet"),
        (lambda f: (f / "a.parquet").write_bytes(b""), {}, r"a\.parquet cannot be read as parquet"),
        (lambda f: (f / "a.parquet").rename(f / "a.jsonl").write_bytes(b""), {}, r"input\.url: no row"),
    ],
    ids=[
        "nothing there", "no match", "no such column", "no such column to keep", "not text", "truncated", "no bytes",
        "empty",
    ],
)  # fmt: skip
def test_input_that_cannot_be_used(
    prepare: Callable[[Path], object],
    changes: dict[str, Any],
    words: str,
    folder: Path,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    prepare(folder)
    if "input__url" in changes:
        changes = {"input__url": changes["input__url"].format(folder=folder)}
    spec = spec_of(folder, models["ner"], **changes)
    assert_explained(shardmill("run", spec, tmp_path), 4, words)


def _change_config(model: Path, **changes: Any) -> None:
    path = model / "config.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


def _remove_tokenizer(model: Path) -> None:
    for path in model.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_model_without_weights(folder: Path, models: dict[str, Path], tmp_path: Path) -> None:
    """Seen by the workers only: the driver loads no weights."""
    model = shutil.copytree(models["ner"], tmp_path / "model")
    (model / "model.safetensors").unlink()
    ended = shardmill("run", spec_of(folder, model), tmp_path)
    assert_explained(ended, 4, r"expected weights, .*model\.safetensors.*; found config\.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda m: (m / "config.json").unlink(), "expected config.json, found"),
        (lambda m: _change_config(m, model_type="gpt2"), "model_type: expected one of .*roberta.*found 'gpt2'"),
        (_remove_tokenizer, "tokenizer.json"),
    ],
    ids=["no folder", "no config", "unknown family", "no tokenizer"],
)  # fmt: skip
def test_a_model_that_cannot_be_used(
    damage: Callable[[Path], object], words: str, folder: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    model = shutil.copytree(models["ner"], tmp_path / "model")
    damage(model)
    assert_explained(shardmill("run", spec_of(folder, model), tmp_path), 4, words)


@pytest.mark.parametrize("section", ["input", "output", "model"])
def test_a_bucket_that_is_not_there(
    section: str, folder: Path, models: dict[str, Path], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    spec = spec_of(folder, models["ner"])
    spec[section]["path" if section == "model" else "url"] = "s3://no-such-bucket/folder"
    spec[section]["storage"] = s3_bucket.options | {"secret": SECRET}
    ended = shardmill("run", spec, tmp_path)
    assert_explained(ended, 4, "s3://no-such-bucket/folder.*the bucket does not exist")


def test_storage_that_refuses(folder: Path, models: dict[str, Path], tmp_path: Path) -> None:
    with running_s3(INITIAL_NO_AUTH_ACTION_COUNT="0") as server:
        spec = spec_of(folder, models["ner"], input__url="s3://bucket/corpus")
        spec["input"]["storage"] = server.options | {"secret": SECRET}
        assert_explained(shardmill("run", spec, tmp_path), 4, "s3://bucket.*access refused")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An input folder in which rows and files are bad in every way, and in between good ones."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    good = rows(20)
    (folder / "a.parquet").write_bytes(WRITERS["x.parquet"](good))
    (folder / "b.parquet").write_bytes(WRITERS["x.parquet"](good)[:-100])
    (folder / "c.jsonl").write_bytes(
        b'{"id": 20, "text": "good Mozart"}\n'
        b'{"id": 21, "text": "cut off, Mozart\n'
        b'{"id": 22, "text": "not UTF-8: \xff Mozart"}\n'
        b'["Mozart", 23]\n'
        b'{"id": 24, "text": 24}\n'
        b'{"id": 25, "text": "good"}\n'
    )
    (folder / "d.csv").write_bytes(b"id,text\n26,good\n27,not UTF-8: \xff Mozart\n28,a,Mozart,too,many\n29,good\n")
    packed = [gzip.compress(b'{"id": %d, "text": "packed"}\n' % number) for number in (30, 31, 32)]
    for number, content in enumerate(packed):
        (folder / f"e{number}.jsonl.gz").write_bytes(content if number != 1 else content[:-12])
    pq.write_table(pa.table({"id": [33], "text": [33]}), folder / "f.parquet")
    return folder


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_bad_rows_cost_rows_and_bad_files_cost_files(mixed: Path, models: dict[str, Path], tmp_path: Path) -> None:
    spec = spec_of(mixed, models["ner"])
    output = Storage.open(spec["output"]["url"])
    ended = shardmill("run", spec, tmp_path)
    assert ended.exit_code == 3, ended.stderr
    assert "1 unreadable file" in ended.stdout
    assert re.search(r"cut into 3 units of one file: .*/e1\.jsonl\.gz cannot be read as jsonl", ended.stdout)
    assert re.search(
        r"put in quarantine: .*/f\.parquet .*'text' is string in the job's first file, .* here", ended.stdout
    )
    for text in (ended.stdout, ended.stderr, *(record.reason for record in quarantined(output))):
        assert IN_THE_CORPUS not in text
        assert "Traceback" not in text

    assert {Path(url).name for record in quarantined(output) for url in record.urls} == BAD_FILES
    found = rows_of(output)
    whys = [row["error"] for row in found.to_pylist()]
    assert found["id"].to_pylist() == [*range(21), None, None, None, None, 25, 26, None, None, 29, 30, 32]
    assert [number for number, why in enumerate(whys) if why] == [3, 5, 13, 15, 21, 22, 23, 24, 27, 28]
    assert whys[21:25] == [
        "the line is not JSON: Unterminated string starting at at character 19",
        "the row is not valid UTF-8: byte 31",
        "the line is JSON, but no object: found a list",
        "the column text does not fit: expected string, found a number",
    ]
    assert whys[27:29] == ["column text: the row is not valid UTF-8", "the row has 5 values, the header 2"]
    assert_verified(output)

    done = parts_of(tmp_path / "out")
    assert shardmill("run", spec, tmp_path).exit_code == 3  # what is in quarantine does not heal by itself
    allowed_rows = spec | {"limits": {"bad_rows": 6}}
    assert shardmill("run", allowed_rows, tmp_path).exit_code == 3
    allowed = spec | {"limits": {"bad_rows": 6, "bad_units": 3}}
    assert shardmill("run", allowed, tmp_path).exit_code == 0
    other = spec_of(mixed, models["ner"], task__aggregation="first")
    assert_explained(
        shardmill("run", other, tmp_path), 5, r"What differs:.* task\.aggregation: there 'simple', now 'first'"
    )
    assert parts_of(tmp_path / "out") == done

    for name in BAD_FILES:
        (mixed / name).unlink()
        pq.write_table(rows(10, first_id=40), mixed / name.replace(".jsonl.gz", ".parquet"))
    mended = shardmill("run", allowed_rows, tmp_path)
    assert mended.exit_code == 0, mended.stdout
    assert "unreadable" not in mended.stdout
    assert rows_of(output).num_rows == found.num_rows + 10 * len(BAD_FILES)
    assert done.items() <= parts_of(tmp_path / "out").items()
    assert_verified(output)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_model_without_names_for_its_labels_is_told_of(folder: Path, models: dict[str, Path], tmp_path: Path) -> None:
    model = shutil.copytree(models["ner"], tmp_path / "model")
    _change_config(model, id2label=None, label2id=None, num_labels=7)
    ended = shardmill("run", spec_of(folder, model), tmp_path)
    assert ended.exit_code == 0
    assert "the model's labels have no names: the output says LABEL_0 to LABEL_6" in ended.stderr
