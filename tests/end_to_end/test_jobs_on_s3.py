"""Jobs whose input, model and output lie on a real S3-compatible server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import JobSpec, annotate, run
from pipeline.storage import Storage
from tests.support.every_format import Corpus
from tests.support.finished import assert_alike, assert_verified, rows_of
from tests.support.s3 import CREDENTIALS, S3Bucket

pytestmark = pytest.mark.ray

COMMAND = Path(sys.executable).with_name("shardmill")


@pytest.fixture
def bucket(s3_bucket: S3Bucket, corpus: Corpus, models: dict[str, Path]) -> S3Bucket:
    """A bucket with `corpus/files`, `corpus/saved` and `models`."""
    storage = Storage.open(s3_bucket.url, s3_bucket.options)
    for url in corpus.urls:
        _upload(storage, Path(url), f"corpus/{Path(url).name}")
    for kind, folder in models.items():
        _upload(storage, folder, f"models/{kind}")
    return s3_bucket


def _upload(storage: Storage, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.put_file(path, f"{prefix}/{path.relative_to(folder)}")


def spec_for(bucket: S3Bucket, task: dict[str, Any], **sections: dict[str, Any]) -> JobSpec:
    """A job from and to the bucket; `sections` have what is to be added."""
    parts: dict[str, dict[str, Any]] = {
        "input": {"url": [f"{bucket.url}/corpus/files", f"{bucket.url}/corpus/saved"], "unit_bytes": 10_000},
        "output": {"url": f"{bucket.url}/out", "keep": ["id"]},
        "model": {"path": f"{bucket.url}/models/{task['type']}"},
        "workers": {"max": 2},
    }
    for name, options in sections.items():
        parts[name] |= options
    return JobSpec(name="from and to a bucket", task=task, **parts)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "task", [{"type": "embed"}, {"type": "ner", "ignore_labels": []}], ids=lambda task: task["type"]
)
def test_with_storage_options(task: dict[str, Any], bucket: S3Bucket, corpus: Corpus, models: dict[str, Path]) -> None:
    given = {section: {"storage": bucket.options} for section in ("input", "output", "model")}
    summary = run(spec_for(bucket, task, **given))
    assert (summary.exit_code, summary.num_rows) == (0, len(corpus.texts))
    storage = Storage.open(f"{bucket.url}/out", bucket.options)
    assert_verified(storage, input_storage=bucket.options)
    found = rows_of(storage)
    assert found["id"].to_pylist() == list(range(len(corpus.texts)))
    expected = annotate(corpus.texts, model=models[task["type"]], task=task, dtype="auto")
    assert_alike(found.drop_columns("id").to_pylist(), expected.to_pylist())
    everything = [storage.read_bytes(entry.path) for entry in storage.list()]
    assert not any(bucket.options["secret"].encode() in content for content in everything)
    again = run(spec_for(bucket, task, **given))
    assert (again.num_units_committed, again.num_workers) == (0, 0)


def test_with_credentials_from_the_environment(
    bucket: S3Bucket, corpus: Corpus, models: dict[str, Path], tmp_path: Path
) -> None:
    """Plain text with it, which has no other column to keep; through the command, which starts Ray by itself."""
    lines = [f"line {number}" for number in range(50)]
    Storage.open(bucket.url, bucket.options).write_bytes(
        "corpus/lines.txt", "".join(f"{line}\n" for line in lines).encode()
    )
    spec = spec_for(
        bucket,
        {"type": "classify"},
        input={"url": [f"{bucket.url}/corpus/files/*.parquet", f"{bucket.url}/corpus/*.txt"]},
        output={"keep": []},
    )
    job = tmp_path / "job.yaml"
    job.write_text(spec.to_yaml())
    environment = {
        "AWS_ENDPOINT_URL": str(bucket.options["endpoint_url"]),
        "AWS_ACCESS_KEY_ID": CREDENTIALS["key"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["secret"],
    }
    ended = subprocess.run(
        [COMMAND, "run", job], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert CREDENTIALS["secret"] not in ended.stdout + ended.stderr
    found = rows_of(Storage.open(f"{bucket.url}/out", bucket.options))
    expected = annotate([*corpus.texts[:70], *lines], model=models["classify"], task={"type": "classify"}, dtype="auto")
    assert_alike(found.to_pylist(), expected.to_pylist())
