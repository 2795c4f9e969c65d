"""What is left when a writer is killed or the disk is full: nothing that stays or is taken for output."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest

from pipeline.entries import Leftover
from pipeline.errors import StorageError
from pipeline.leftovers import LEFTOVER_AGE_S, remove_leftovers
from pipeline.storage import Storage, _RemoteStorage
from pipeline.writer import PartWriter
from tests.support.pets import go, pets, write_model
from tests.support.s3 import CREDENTIALS, S3Bucket

KILLED_WHILE_IT_WRITES = """
import os, signal, sys
from pathlib import Path
from pipeline.durable import create_durably

def write(staged):
    staged.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

create_durably(sys.argv[1], write, exclusive=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk takes the rights of root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def client_of(bucket: S3Bucket) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=bucket.options["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["key"],
        aws_secret_access_key=CREDENTIALS["secret"],
    )


def test_a_killed_writer_leaves_what_a_later_run_removes(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write_bytes("part-0.parquet", b"whole")
    storage.write_bytes(".huggingface.yaml", b"ours, and no leftover")
    for name in ("part-1.parquet", "_shardmill/plans/00000.plan"):
        subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_WRITES, tmp_path / name], check=False)
    staged = [leftover.path for leftover in storage.leftovers()]
    assert [path.rpartition(".")[0].rpartition(".")[0] for path in staged] == [
        ".part-1.parquet",
        "_shardmill/plans/.00000.plan",
    ]
    assert remove_leftovers(storage) == 0  # their writers might be alive, on another machine
    for path in staged:
        long_ago = time.time() - LEFTOVER_AGE_S - 1
        os.utime(tmp_path / path, (long_ago, long_ago))
    assert remove_leftovers(storage) == 2
    assert [entry.path for entry in storage.list()] == [".huggingface.yaml", "part-0.parquet"]
    assert storage.read_bytes("part-0.parquet") == b"whole"


def test_unfinished_uploads_below_the_root_are_aborted(s3_bucket: S3Bucket) -> None:
    client = client_of(s3_bucket)
    for key in ("out/part-0.parquet", "out/part-1.parquet", "other/part-0.parquet"):
        client.create_multipart_upload(Bucket=s3_bucket.name, Key=key)
    storage = Storage.open(f"{s3_bucket.url}/out", s3_bucket.options)
    assert [leftover.path for leftover in storage.leftovers()] == ["part-0.parquet", "part-1.parquet"]
    assert remove_leftovers(storage, older_than_s=time.time()) == 0
    assert remove_leftovers(storage) == 2  # this server says of each that it was begun in 2010
    assert remove_leftovers(storage) == 0
    others = Storage.open(s3_bucket.url, s3_bucket.options).leftovers()
    assert [leftover.path for leftover in others] == ["other/part-0.parquet"]
    client.close()


def test_a_run_begins_with_what_killed_writers_left(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    staged = [tmp_path / "out" / f".part-{name}.parquet.0123abcd.staged" for name in ("old", "young")]
    for path in staged:
        path.write_bytes(b"half")
    os.utime(staged[0], (0, 0))
    assert go(pets(model, tmp_path)).state == "done"
    assert [path.exists() for path in staged] == [False, True]

    remote = Storage.open(f"{s3_bucket.url}/out", s3_bucket.options)
    client = client_of(s3_bucket)
    client.create_multipart_upload(Bucket=s3_bucket.name, Key="out/part-old.parquet")
    client.close()
    assert [leftover.path for leftover in remote.leftovers()] == ["part-old.parquet"]
    job = pets(model, tmp_path, output={"url": remote.url, "storage": s3_bucket.options})
    assert go(job).state == "done"
    assert list(remote.leftovers()) == []


def test_a_store_that_refuses_to_tell_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(storage: Storage) -> Iterator[Leftover]:
        raise StorageError("access refused")

    monkeypatch.setattr(_RemoteStorage, "leftovers", refuse)
    assert remove_leftovers(Storage.open("memory://nothing-left")) == 0
    assert "is not removed: access refused" in caplog.text


def test_stores_that_keep_nothing() -> None:
    assert remove_leftovers(Storage.open("memory://nothing-left"), older_than_s=-60) == 0


def test_a_commit_to_a_full_disk_leaves_nothing_and_may_be_repeated(small_disk: Path, tmp_path: Path) -> None:
    storage = Storage.open(str(small_disk / "out"))
    local = tmp_path / "staged"
    local.write_bytes(bytes(800_000))
    storage.put_file(local, "part-0")
    for write in (lambda: storage.put_file(local, "part-1"), lambda: storage.write_bytes("part-1", local.read_bytes())):
        with pytest.raises(StorageError, match=r"part-1: No space left on device\. Make room there and run") as caught:
            write()
        assert (caught.value.reach, caught.value.retry) == ("run", False)
        assert os.listdir(small_disk / "out") == ["part-0"]
    storage.remove("part-0")
    storage.put_file(local, "part-1")
    assert (small_disk / "out" / "part-1").read_bytes() == local.read_bytes()


def test_a_staged_file_on_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    schema = pa.schema([("x", pa.binary())])
    writer = PartWriter(schema, small_disk, compression="none")
    writer.write(pa.record_batch([pa.array([os.urandom(1_500_000)])], schema=schema))
    with pytest.raises(StorageError, match=r"cannot write the staged file .*Make room there, or point TMPDIR"):
        writer.close({})
    writer.discard()
    assert os.listdir(small_disk) == []
