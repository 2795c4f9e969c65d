"""Storage on a local disk, in memory, and on a real S3 server: one contract."""

from __future__ import annotations

import itertools
import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import storage_errors
from pipeline.entries import Entry
from pipeline.errors import (
    CommitConflict,
    SpecError,
    StorageError,
    StorageNotFound,
    StorageUnavailable,
)
from pipeline.storage import Storage, _RemoteStorage
from tests.support.s3 import S3Bucket, running_s3

_names = itertools.count()


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder, wherever it lies."""
    if request.param == "local":
        return Storage.open(str(tmp_path / "root"))
    if request.param == "memory":
        return Storage.open(f"memory://storage-{next(_names)}/root")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return Storage.open(f"{bucket.url}/root", bucket.options)


def paths(entries: Iterator[Entry]) -> list[str]:
    return [entry.path for entry in entries]


def test_reads_what_it_wrote(storage: Storage) -> None:
    storage.write_bytes("a/b.bin", b"0123456789")
    assert storage.read_bytes("a/b.bin") == b"0123456789"
    with storage.open_file("a/b.bin") as file:
        assert file.seek(-3, os.SEEK_END) == 7
        assert file.read() == b"789"
        file.seek(2)
        assert (file.read(3), file.tell(), file.read(100), file.read()) == (b"234", 5, b"56789", b"")
    storage.write_bytes("a/b.bin", b"new")
    assert storage.read_bytes("a/b.bin") == b"new"


def test_lists_in_the_order_of_whole_paths(storage: Storage) -> None:
    for path in ("b/x", "a.txt", "a/z", "a/b/c", "part-1", "part-2", "aa"):
        storage.write_bytes(path, path.encode())
    assert paths(storage.list()) == ["a.txt", "a/b/c", "a/z", "aa", "b/x", "part-1", "part-2"]
    assert paths(storage.list("part-")) == ["part-1", "part-2"]
    assert paths(storage.list("a")) == ["a.txt", "a/b/c", "a/z", "aa"]
    assert paths(storage.list("a/")) == ["a/b/c", "a/z"]
    assert paths(storage.list(max_depth=1)) == ["a.txt", "aa", "part-1", "part-2"]
    assert paths(storage.list("a/", max_depth=1)) == ["a/z"]
    assert paths(storage.list(max_depth=2)) == ["a.txt", "a/z", "aa", "b/x", "part-1", "part-2"]
    assert paths(storage.below("a").list()) == ["b/c", "z"]
    assert paths(storage.list("nothing")) == []


def test_stat_agrees_with_list_and_tells_a_change(storage: Storage) -> None:
    storage.write_bytes("x", b"12345")
    (listed,) = storage.list()
    assert storage.stat("x") == listed
    assert listed.size_bytes == 5
    storage.write_bytes("x", b"54321")
    changed = storage.stat("x")
    assert changed is not None
    assert changed.fingerprint != listed.fingerprint


def test_folders_and_missing_files_are_no_files(storage: Storage) -> None:
    storage.write_bytes("folder/x", b"")
    assert storage.exists("folder/x")
    assert not storage.exists("folder")
    assert not storage.exists("nothing")
    with pytest.raises(StorageNotFound, match="nothing does not exist"):
        storage.read_bytes("nothing")
    with pytest.raises(StorageNotFound, match="nothing does not exist"):
        storage.open_file("nothing")


def test_exclusive_writes_let_the_first_win(storage: Storage, tmp_path: Path) -> None:
    local = tmp_path / "staged"
    local.write_bytes(b"second")
    storage.write_bytes("part", b"first", exclusive=True)
    with pytest.raises(CommitConflict, match=r"root/part is there already"):
        storage.write_bytes("part", b"second", exclusive=True)
    with pytest.raises(CommitConflict, match=r"root/part is there already"):
        storage.put_file(local, "part")
    assert storage.read_bytes("part") == b"first"
    assert paths(storage.list()) == ["part"]
    storage.put_file(local, "part", exclusive=False)
    assert storage.read_bytes("part") == b"second"
    assert local.exists()


def test_large_files_are_put_whole_and_exclusively(storage: Storage, tmp_path: Path) -> None:
    local = tmp_path / "staged"
    local.write_bytes(os.urandom(33 << 20))  # on S3 more than one part
    storage.put_file(local, "deep/part")
    other = tmp_path / "other"
    other.write_bytes(local.read_bytes()[:-1] + b"x")
    with pytest.raises(CommitConflict):
        storage.put_file(other, "deep/part")
    storage.fetch("deep/part", tmp_path / "back" / "part")
    assert (tmp_path / "back" / "part").read_bytes() == local.read_bytes()


def test_removing_twice_is_no_error(storage: Storage) -> None:
    storage.write_bytes("x", b"")
    storage.remove("x")
    storage.remove("x")
    assert not storage.exists("x")


def test_is_picklable_also_after_use(storage: Storage) -> None:
    storage.write_bytes("x", b"1")
    again = pickle.loads(pickle.dumps(storage))
    assert (again.url, again.is_local) == (storage.url, storage.is_local)
    assert again.read_bytes("x") == b"1"


def test_a_root_may_be_a_file(storage: Storage) -> None:
    storage.write_bytes("x", b"1")
    file = Storage.open(storage.url_of("x"), getattr(storage, "_options", None))
    found = file.stat()
    assert found is not None
    assert (found.path, found.size_bytes) == ("", 1)
    assert file.read_bytes("") == b"1"
    assert file.url_of("") == storage.url_of("x")


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Storage.open("some/folder/").url == f"{tmp_path}/some/folder"
    assert Storage.open("~/x").url == f"{tmp_path}/home/x"
    assert Storage.open(f"file://{tmp_path}/x").url == f"{tmp_path}/x"


def test_a_local_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(str(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"part: No space left on device"):
        storage.write_bytes("part", b"1", exclusive=True)
    assert os.listdir(tmp_path) == []


def test_a_local_write_is_durable_with_the_folders_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.open(str(tmp_path))
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    storage.write_bytes("a/b/part", b"1")
    *above, staged, folder = synced
    assert above == [str(tmp_path), str(tmp_path / "a")]
    assert os.path.dirname(staged) == folder == str(tmp_path / "a" / "b")
    synced.clear()
    storage.write_bytes("a/b/part", b"2")
    assert len(synced) == 2


def test_exclusive_writes_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(str(tmp_path))

    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    storage.write_bytes("part", b"first", exclusive=True)
    with pytest.raises(CommitConflict):
        storage.write_bytes("part", b"second", exclusive=True)
    assert storage.read_bytes("part") == b"first"
    assert os.listdir(tmp_path) == ["part"]


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "a" / "x")
    assert paths(Storage.open(str(tmp_path)).list()) == ["a/x", "other"]


def test_a_local_folder_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="refuses access; check its owner and mode"):
        list(Storage.open(str(tmp_path)).list())


def test_listing_s3_holds_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Driver:
        def call_s3(self, method: str, **request: Any) -> dict[str, Any]:
            asked.append(request)
            first = 1000 * int(request.get("ContinuationToken", "0"))
            keys = [f"root/{number:09d}" for number in range(first, first + 1000)]
            return {
                "Contents": [{"Key": key, "Size": 1, "ETag": '"e"', "StorageClass": "STANDARD"} for key in keys],
                "IsTruncated": first < 99_000,
                "NextContinuationToken": str(first // 1000 + 1),
            }

    monkeypatch.setattr(_RemoteStorage, "_driver", (Driver(), "bucket/root"))
    entries = Storage.open("s3://bucket/root").list()
    assert next(entries).path == "000000000"
    assert len(asked) == 1
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries) == 99_999
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(asked) == 100


def test_a_bucket_that_is_not_there(s3_bucket: S3Bucket) -> None:
    storage = Storage.open("s3://no-such-bucket/folder", s3_bucket.options)
    calls: list[Callable[[], object]] = [
        lambda: list(storage.list()),
        lambda: storage.stat("x"),
        lambda: storage.write_bytes("x", b""),
    ]
    for call in calls:
        with pytest.raises(StorageNotFound, match=r"s3://no-such-bucket.*the bucket does not exist") as caught:
            call()
        assert caught.value.container_missing


def test_a_bucket_that_refuses() -> None:
    with running_s3(INITIAL_NO_AUTH_ACTION_COUNT="1") as server:  # making the bucket; from then on keys are checked
        bucket = server.make_bucket()
        storage = Storage.open(f"{bucket.url}/x", bucket.options)
        calls: list[Callable[[], object]] = [
            lambda: list(storage.list()),
            lambda: storage.stat("x"),
            lambda: storage.write_bytes("x", b""),
        ]
        for call in calls:
            with pytest.raises(StorageError, match=r"s3://bucket-0/x.*access refused.*Check the credentials") as caught:
                call()
            assert not caught.value.retry
            assert bucket.options["secret"] not in str(caught.value)
            assert bucket.options["key"] not in str(caught.value)


def test_no_credentials(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = Storage.open(s3_bucket.url, {"endpoint_url": s3_bucket.options["endpoint_url"]})
    with pytest.raises(StorageError, match="no credentials"):
        storage.exists("x")


def test_credentials_from_the_environment(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-environment")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_bucket.options["endpoint_url"])
    storage = Storage.open(s3_bucket.url, {"skip_instance_cache": True})
    storage.write_bytes("x", b"1")
    assert storage.read_bytes("x") == b"1"


def test_an_option_that_s3_does_not_know() -> None:
    with pytest.raises(SpecError, match=r"storage\.endpont_url: .* did you mean endpoint_url\?"):
        Storage.open("s3://bucket", {"endpont_url": "http://127.0.0.1"})


@pytest.mark.parametrize(("url", "extra"), [("gs://bucket/x", "gcs"), ("az://bucket/x", "azure")])
def test_a_driver_that_is_not_installed(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError(f"Please install the driver of {protocol}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(SpecError, match=rf"pip install 'shardmill\[{extra}\]'"):
        Storage.open(url)


def test_a_kind_of_url_that_nobody_knows() -> None:
    with pytest.raises(SpecError, match="s4:// is no kind of URL"):
        Storage.open("s4://bucket")


class Flaky(MemoryFileSystem):
    """Fails as often as told before it works."""

    protocol = "flaky"
    failures: list[Exception] = []  # noqa: RUF012
    cachable = False

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if self.failures:
            raise self.failures.pop()
        return b"content"


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What reading will raise, last first; and retries do not wait."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(storage_errors, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(storage_errors, "LONGEST_WAIT_S", 0.0)
    Flaky.failures = []
    return Flaky.failures


def test_what_may_pass_is_tried_again(flaky: list[Exception], caplog: pytest.LogCaptureFixture) -> None:
    flaky += [TimeoutError(), ConnectionResetError(), OSError(16, "Please reduce your request rate")]
    assert Storage.open("flaky://x").read_bytes("y") == b"content"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "flaky://x/y: not available now" in caplog.messages[0]
    assert "Attempt 1 of 12" in caplog.messages[0]


def test_exclusive_writes_on_a_server_without_conditional_ones(tmp_path: Path) -> None:
    class Old(MemoryFileSystem):
        protocol = "old"

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
            if mode == "create":
                response = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
                raise OSError(38, "not implemented") from ClientError(response, "PutObject")  # type: ignore[arg-type]
            super().pipe_file(path, value)

    fsspec.register_implementation("old", Old, clobber=True)
    storage = Storage.open(f"old://{tmp_path.name}")
    storage.write_bytes("part", b"first", exclusive=True)
    with pytest.raises(CommitConflict):
        storage.write_bytes("part", b"second", exclusive=True)
    assert storage.read_bytes("part") == b"first"


def test_a_short_read_is_tried_again(flaky: list[Exception], caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage.open("flaky://x")
    storage.write_bytes("y", b"content")
    with storage.open_file("y") as file:
        assert file.read() == b"content"
    storage.write_bytes("y", b"ten bytes.")
    with storage.open_file("y") as file, pytest.raises(StorageUnavailable, match="7 bytes came instead of 10"):
        file.read()
    assert len(caplog.messages) == storage_errors.ATTEMPTS - 1


def test_not_for_ever(flaky: list[Exception]) -> None:
    flaky += [TimeoutError() for _ in range(100)]
    with pytest.raises(StorageUnavailable, match="not available now"):
        Storage.open("flaky://x").read_bytes("y")
    assert len(flaky) == 100 - storage_errors.ATTEMPTS


def test_what_will_not_pass_is_not_tried_again(flaky: list[Exception]) -> None:
    flaky += [TimeoutError(), PermissionError("no")]
    with pytest.raises(StorageError, match="access refused"):
        Storage.open("flaky://x").read_bytes("y")
    assert len(flaky) == 1


def test_messages_hold_no_secrets(flaky: list[Exception]) -> None:
    flaky += [OSError("the request with hunter2hunter2, deep-secret and listed-secret to http://store failed")]
    deep = {"endpoint_url": "http://store", "headers": [("Authorization", "listed-secret")], "secret": "deep-secret"}
    options = {"token": "hunter2hunter2", "client_kwargs": deep}
    storage = Storage.open("flaky://user:password@host/x?signature=abc", options)
    with pytest.raises(StorageError) as caught:
        storage.read_bytes("")
    told = "OSError: the request with ***, *** and *** to http://store failed"
    assert str(caught.value) == f"flaky://host/x: {told}"
