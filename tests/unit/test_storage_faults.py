"""Storage on an S3 server that misbehaves: every operation ends right, or with the right error."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.retries.standard import ExponentialBackoff

from pipeline import s3, storage_errors
from pipeline.errors import CommitConflict, FileChanged, StorageUnavailable, StorageUnreachable
from pipeline.storage import Storage
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.s3 import S3Bucket, S3Server

PART_BYTES = 5 << 20  # of a multipart upload: the least that S3 takes
# Each is enough of a fault to make the driver give up, and leave the matter to the storage.
IN_A_ROW = 3


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts, the storage's and those of the driver below it."""
    monkeypatch.setattr(storage_errors, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.001)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """It lets everything through but for what is injected."""
    with FaultProxy(s3_server.endpoint_url, seed=0, rate=0.0, delay_s=0.01) as running:
        yield running


@pytest.fixture
def storage(proxy: FaultProxy, s3_bucket: S3Bucket) -> Storage:
    """An empty folder behind the proxy."""
    bucket = proxy.bucket(s3_bucket)
    return Storage.open(f"{bucket.url}/root", bucket.options)


@pytest.fixture
def behind(s3_bucket: S3Bucket) -> Storage:
    """The same folder, without the proxy."""
    return Storage.open(f"{s3_bucket.url}/root", s3_bucket.options)


@pytest.mark.parametrize("seed", range(3))
def test_every_operation_ends_right(seed: int, s3_server: S3Server) -> None:
    chance = random.Random(seed)
    with FaultProxy(s3_server.endpoint_url, seed=seed, rate=0.3, delay_s=0.01) as proxy:
        bucket = proxy.bucket(s3_server.make_bucket())
        storage = Storage.open(f"{bucket.url}/root", bucket.options)
        written: dict[str, bytes] = {}
        for number in range(30):
            path, content = f"folder/{number:02d}", chance.randbytes(chance.randrange(50_000))
            storage.write_bytes(path, content, exclusive=True)
            written[path] = content
            again = chance.choice(sorted(written))
            with pytest.raises(CommitConflict):
                storage.write_bytes(again, b"another's", exclusive=True)
            assert storage.read_bytes(again) == written[again]
            with storage.open_file(again, buffer_bytes=10_000) as file:
                assert file.read() == written[again]
        assert [entry.path for entry in storage.list()] == sorted(written)
        assert set(proxy.counts) == {"requests", *Fault} - {Fault.STALL}
        assert proxy.counts.total() - proxy.counts["requests"] > 50


@pytest.mark.parametrize("fault", sorted(set(Fault) - {Fault.STALL}))
def test_large_uploads_end_right(
    fault: Fault, proxy: FaultProxy, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(s3.UPLOAD, "chunksize", PART_BYTES)
    local = tmp_path / "staged"
    local.write_bytes(os.urandom(2 * PART_BYTES + 1000))
    for method in ("POST", "PUT", "PUT", "PUT", "PUT"):
        proxy.inject(fault, method=method)
    storage.put_file(local, "part")
    storage.fetch("part", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    with local.open("ab") as file:
        file.write(b"more")
    with pytest.raises(CommitConflict):
        storage.put_file(local, "part")


def test_a_commit_whose_reply_is_lost_is_ours(
    proxy: FaultProxy, storage: Storage, behind: Storage, tmp_path: Path
) -> None:
    local = tmp_path / "staged"
    local.write_bytes(b"ours")
    for number, faults in enumerate((1, IN_A_ROW)):  # the driver tries again, or the storage
        for _ in range(faults):
            proxy.inject(Fault.LOSE_REPLY, method="PUT")
        storage.put_file(local, f"part-{number}", exclusive=True)
        assert behind.read_bytes(f"part-{number}") == b"ours"
        proxy.inject(Fault.LOSE_REPLY, method="PUT")
        storage.write_bytes(f"lease-{number}", b"ours", exclusive=True)


def test_a_commit_of_anothers_is_theirs_also_when_replies_are_lost(
    proxy: FaultProxy, storage: Storage, behind: Storage
) -> None:
    behind.write_bytes("part", b"theirs")
    proxy.inject(Fault.LOSE_REPLY, method="PUT")
    with pytest.raises(CommitConflict):
        storage.write_bytes("part", b"ours", exclusive=True)
    assert behind.read_bytes("part") == b"theirs"


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_server_that_stalls_is_asked_again(method: str, proxy: FaultProxy, s3_bucket: S3Bucket) -> None:
    bucket = proxy.bucket(s3_bucket)
    storage = Storage.open(bucket.url, bucket.options | {"config_kwargs": {"read_timeout": 0.3}})
    for _ in range(IN_A_ROW):
        proxy.inject(Fault.STALL, method=method)
    storage.write_bytes("x", b"1", exclusive=True)
    assert storage.exists("x")
    assert storage.read_bytes("x") == b"1"
    assert proxy.counts[Fault.STALL] == IN_A_ROW


def test_an_upload_that_fails_is_aborted(
    proxy: FaultProxy, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_errors, "ATTEMPTS", 1)
    monkeypatch.setitem(s3.UPLOAD, "chunksize", PART_BYTES)
    local = tmp_path / "staged"
    local.write_bytes(bytes(2 * PART_BYTES))
    for _ in range(3 * IN_A_ROW):
        proxy.inject(Fault.SLOW_DOWN, method="PUT")
    with pytest.raises(StorageUnavailable, match=r"part: not available now .*reduce your request rate"):
        storage.put_file(local, "part")
    assert list(storage.leftovers()) == []
    assert not storage.exists("part")


def test_throttling_is_waited_for_with_a_line_in_the_log(
    proxy: FaultProxy, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pipeline")
    for _ in range(2 * IN_A_ROW):
        proxy.inject(Fault.SLOW_DOWN, method="PUT")
    storage.write_bytes("x", b"1")
    assert [message.partition("(")[0] for message in caplog.messages] == [f"{storage.url}/x: not available now "] * 2


def test_a_file_that_is_replaced_while_it_is_read(proxy: FaultProxy, storage: Storage, behind: Storage) -> None:
    behind.write_bytes("x", b"1" * 1000)
    with storage.open_file("x", buffer_bytes=100) as file:
        assert file.read(100) == b"1" * 100
        behind.write_bytes("x", b"2" * 1000)
        proxy.inject(Fault.TRUNCATE, method="GET")
        with pytest.raises(FileChanged, match=r"root/x was replaced while it was read"):
            file.read(100)
    (listed,) = storage.list()
    behind.write_bytes("x", b"3")
    with storage.open_file("x", expected=listed) as file, pytest.raises(FileChanged):
        file.read()


def test_a_server_that_has_answered_is_waited_for(proxy: FaultProxy, storage: Storage) -> None:
    storage.write_bytes("x", b"1")
    with proxy.down(), pytest.MonkeyPatch.context() as patch:
        waits: list[float] = []
        patch.setattr("tenacity.nap.time.sleep", waits.append)
        with pytest.raises(StorageUnreachable, match=r"nobody answers .*Check the endpoint"):
            storage.read_bytes("x")
        assert len(waits) == storage_errors.ATTEMPTS - 1
    assert storage.read_bytes("x") == b"1"


def test_a_server_that_never_answered_is_soon_given_up(proxy: FaultProxy, storage: Storage) -> None:
    with proxy.down(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage_errors, "UNREACHABLE_S", 0.0)
        patch.setattr("tenacity.nap.time.sleep", lambda wait_s: pytest.fail("it waits"))
        with pytest.raises(StorageUnreachable):
            storage.read_bytes("x")
