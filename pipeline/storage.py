"""Folders and files wherever they lie. The only module that knows fsspec.

A `Storage` is rooted at one URL; paths are relative to it, with forward slashes, and "" is the root itself (which may
be a single file). Local folders are served without fsspec, because exclusive and durable writes need the real thing.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import io
import os
import re
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.asyn import sync
from fsspec.core import url_to_fs

from pipeline import s3
from pipeline.durable import create_durably, is_staged
from pipeline.entries import Entry, Leftover, entry_of, walk
from pipeline.errors import CommitConflict, FileChanged, SpecError, StorageError, StorageNotFound, StorageUnavailable
from pipeline.range_reader import RangeReader
from pipeline.storage_errors import attempting, local_errors, redacted, status_of, translated

READ_BUFFER_BYTES = 1 << 20  # of a remote file: least that one request asks for

_EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}

T = TypeVar("T")


class Storage(ABC):
    """A folder (or a file) on a local disk or in an object store. Picklable, and safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url  # absolute, without a trailing slash

    @staticmethod
    def open(url: str, options: Mapping[str, Any] | None = None) -> Storage:
        """Gives the storage rooted at a URL or a local path; touches nothing yet.

        Args:
            url: `~` and relative local paths are made absolute.
            options: for the fsspec driver: `endpoint_url`, `key`, `secret`, `token`, `anon` ...; local paths take none.

        Raises:
            SpecError: no driver for this kind of URL, or an option that it does not know.
        """
        protocol, separator, rest = url.partition("://")
        if not separator:
            return _LocalStorage(url)
        if protocol in ("file", "local"):
            return _LocalStorage(rest)
        if protocol in s3.PROTOCOLS:
            return _S3Storage(url, options or {})
        return _RemoteStorage(url, options or {})

    @property
    @abstractmethod
    def is_local(self) -> bool: ...

    @property
    def reads_one_version(self) -> bool:
        """Whether a file that is open gives the bytes of one version or `FileChanged`, never a mixture."""
        return False

    def url_of(self, path: str) -> str:
        """The full URL of a path below the root."""
        return f"{self.url}/{path}" if path else self.url

    @abstractmethod
    def below(self, path: str) -> Storage:
        """The storage rooted at a path below this one."""

    @abstractmethod
    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        """Files whose path begins with `prefix`, sorted by path; nothing if there is none.

        Streams: at most one folder's names are held at a time, and of S3 one page.

        Args:
            max_depth: 1 for the files beside each other at the prefix, 2 for one folder further down, and so on.

        Raises:
            StorageError: refused; or the bucket is missing (`StorageNotFound`).
        """

    @abstractmethod
    def stat(self, path: str = "") -> Entry | None:
        """The file at a path as it is now, or None if there is no file (a folder is none)."""

    def exists(self, path: str) -> bool:
        """Whether there is a file at a path."""
        return self.stat(path) is not None

    @abstractmethod
    def open_file(
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, expected: Entry | None = None
    ) -> BinaryIO:
        """Opens a file for reading; it can seek, and reads no more than asked for or `buffer_bytes` ahead.

        Args:
            expected: the file as it was listed; saves a remote store a question.

        Raises:
            StorageNotFound: it is not there; where `expected` is given, perhaps only when it is read.
            FileChanged: when it is read, where `reads_one_version`: it was replaced.
        """

    @abstractmethod
    def read_bytes(self, path: str) -> bytes:
        """The whole content of a (small) file."""

    @abstractmethod
    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        """Writes a (small) file: whole or not at all.

        Raises:
            CommitConflict: `exclusive`, and it is there already. In a remote store that is no conflict if the content
                is this one: it cannot be told from a write of ours whose reply was lost.
        """

    @abstractmethod
    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        """Copies a local file here: whole or not at all; `local` stays.

        Exclusive creation is as strong as the store: atomic on local disks and on stores that honour conditional
        writes (S3 `If-None-Match`, GCS generations); elsewhere a look before the write.

        Raises:
            CommitConflict: as in `write_bytes`.
        """

    @abstractmethod
    def fetch(self, path: str, local: Path) -> None:
        """Copies a file from here to a local path, making its folder."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file; it is no error if it is gone."""

    @abstractmethod
    def leftovers(self) -> Iterator[Leftover]:
        """What writers have begun and not finished, below the root: staged local files, multipart uploads to S3.

        Other stores keep nothing, or drop it by themselves. Some of these writers may be alive and at work.
        """

    @abstractmethod
    def remove_leftover(self, leftover: Leftover) -> None:
        """Removes one; it is no error if it is gone. Its writer, should it be alive, fails and commits nothing."""


class _LocalStorage(Storage):
    """A folder on this machine, by the operating system's own calls."""

    def __init__(self, path: str) -> None:
        super().__init__(os.path.abspath(os.path.expanduser(path)))

    @property
    def is_local(self) -> bool:
        return True

    def below(self, path: str) -> Storage:
        return _LocalStorage(self.url_of(path))

    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        with local_errors(self.url):
            folder, _, stem = prefix.rpartition("/")
            yield from walk(self._names, self.stat, folder, stem, max_depth)

    def _names(self, folder: str) -> Iterator[tuple[str, bool, Entry | None]]:
        try:
            with os.scandir(self.url_of(folder)) as found:
                for item in found:
                    if item.is_symlink() and item.is_dir() and _is_above(item.path, folder=self.url_of(folder)):
                        continue  # following it would never end
                    yield item.name, item.is_dir(), None
        except (FileNotFoundError, NotADirectoryError):
            return

    def stat(self, path: str = "") -> Entry | None:
        try:
            found = os.stat(self.url_of(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        return Entry(path=path, size_bytes=found.st_size, fingerprint=f"{found.st_size}-{found.st_mtime_ns}")

    def open_file(
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, expected: Entry | None = None
    ) -> BinaryIO:
        with local_errors(self.url_of(path)):
            return open(self.url_of(path), "rb", buffering=buffer_bytes)

    def read_bytes(self, path: str) -> bytes:
        with self.open_file(path) as file:
            return file.read()

    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        with local_errors(self.url_of(path)):
            create_durably(self.url_of(path), lambda staged: staged.write_bytes(data), exclusive=exclusive)

    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        with local_errors(self.url_of(path)):
            create_durably(self.url_of(path), lambda staged: shutil.copyfile(local, staged), exclusive=exclusive)

    def fetch(self, path: str, local: Path) -> None:
        with local_errors(self.url_of(path)):
            local.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.url_of(path), local)

    def remove(self, path: str) -> None:
        with local_errors(self.url_of(path)), contextlib.suppress(FileNotFoundError):
            os.remove(self.url_of(path))

    def leftovers(self) -> Iterator[Leftover]:
        for entry in walk(self._names, lambda path: self.stat(path) if is_staged(path) else None, "", "", None):
            with contextlib.suppress(FileNotFoundError):
                yield Leftover(path=entry.path, begun_at=os.stat(self.url_of(entry.path)).st_mtime)

    def remove_leftover(self, leftover: Leftover) -> None:
        self.remove(leftover.path)


def _is_above(link: str, *, folder: str) -> bool:
    target = os.path.realpath(link)
    return os.path.commonpath([target, os.path.realpath(folder)]) == target


class _RemoteStorage(Storage):
    """An object store, a Hub repository or a web server, by its fsspec driver."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url.rstrip("/"))
        self._options = dict(options)
        self._protocol = url.partition("://")[0]
        _check_driver(self._protocol, self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        # Connections stay behind: the copy makes its own when it is first used.
        return type(self), (self.url, self._options)

    @property
    def is_local(self) -> bool:
        return False

    @functools.cached_property
    def _driver(self) -> tuple[Any, str]:
        """The fsspec file system, and the root as a path in it."""
        try:
            return self._connect(self._options)
        except (TypeError, ValueError, KeyError) as error:
            raise SpecError(f"{self._shown('')}: its storage options do not fit: {self._redact(str(error))}") from error

    def _connect(self, options: Mapping[str, Any]) -> tuple[Any, str]:
        system, root = url_to_fs(self.url, **options)
        return system, root.rstrip("/")

    def _place(self, path: str) -> str:
        root = self._driver[1]
        return f"{root}/{path}" if path else root

    def below(self, path: str) -> Storage:
        return type(self)(self.url_of(path), self._options)

    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        folder, _, stem = prefix.rpartition("/")
        return walk(self._names, self.stat, folder, stem, max_depth)

    def _names(self, folder: str) -> Iterator[tuple[str, bool, Entry | None]]:
        system = self._driver[0]
        system.invalidate_cache()
        try:
            found = self._call(folder, system.ls, self._place(folder), detail=True)
        except StorageNotFound:
            return
        for item in found:
            name = item["name"].rstrip("/").rpartition("/")[2]
            is_folder = item["type"] == "directory"
            yield name, is_folder, None if is_folder else entry_of(f"{folder}/{name}" if folder else name, item)

    def stat(self, path: str = "") -> Entry | None:
        system = self._driver[0]
        system.invalidate_cache()
        try:
            found = self._call(path, system.info, self._place(path))
        except StorageNotFound as error:
            if error.container_missing:
                raise
            return None
        return entry_of(path, found) if found["type"] == "file" else None

    def open_file(
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, expected: Entry | None = None
    ) -> BinaryIO:
        entry = expected or self.stat(path)
        if entry is None:
            raise StorageNotFound(f"{self._shown(path)} does not exist.")
        reader = RangeReader(functools.partial(self._read_range, path, entry), entry.size_bytes)
        return cast(BinaryIO, io.BufferedReader(reader, buffer_bytes))

    def _read_range(self, path: str, entry: Entry, start: int, stop: int) -> bytes:
        def read() -> bytes:
            found = self._range(path, entry, start, stop)
            if len(found) == stop - start:
                return found
            if self.stat(path) != replace(entry, path=path):
                raise self._changed(path)
            raise StorageUnavailable(f"{self._shown(path)}: {len(found)} bytes came instead of {stop - start}.")

        return self._call(path, read)

    def _range(self, path: str, entry: Entry, start: int, stop: int) -> bytes:
        return cast(bytes, self._driver[0].cat_file(self._place(path), start=start, end=stop))

    def _changed(self, path: str) -> FileChanged:
        return FileChanged(f"{self._shown(path)} was replaced while it was read. Run the job again.")

    def read_bytes(self, path: str) -> bytes:
        return cast(bytes, self._call(path, self._driver[0].cat_file, self._place(path)))

    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        self._create(path, "pipe_file", data, lambda: io.BytesIO(data), exclusive)

    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        self._create(path, "put_file", str(local), lambda: local.open("rb"), exclusive)

    def _create(
        self, path: str, method: str, source: Any, content: Callable[[], BinaryIO], exclusive: bool, **options: Any
    ) -> None:
        """Calls one of the driver's methods that write a file; `content` gives what the file is to hold."""
        system, place = self._driver[0], self._place(path)
        write = getattr(system, method)
        # Drivers name the method after their own asynchronous one, and only that shows what it really takes.
        can_create = "mode" in inspect.signature(getattr(system, f"_{method}", write)).parameters
        arguments = (source, place) if method == "put_file" else (place, source)
        if exclusive and can_create:
            try:
                self._call(path, write, *arguments, mode="create", **options)
                return
            except CommitConflict:
                # Perhaps it was an earlier attempt of ours, whose reply was lost: some are made deep in the driver's
                # libraries, unseen.
                with content() as ours:
                    if self._holds(path, ours):
                        return
                raise
            except StorageError as error:
                if status_of(error) != 501:  # some servers speak S3, and know no conditional writes
                    raise
        if exclusive and self.exists(path):
            raise CommitConflict(f"{self._shown(path)} is there already.")
        self._call(path, write, *arguments, **options)

    def _holds(self, path: str, ours: BinaryIO) -> bool:
        try:
            with self.open_file(path) as theirs:
                while chunk := theirs.read(READ_BUFFER_BYTES):
                    if ours.read(len(chunk)) != chunk:
                        return False
        except (StorageNotFound, FileChanged):  # by now
            return False
        return not ours.read(1)

    def fetch(self, path: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        self._call(path, self._driver[0].get_file, self._place(path), str(local))

    def remove(self, path: str) -> None:
        with contextlib.suppress(StorageNotFound):
            self._call(path, self._driver[0].rm_file, self._place(path))

    def _call(self, path: str, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Calls the driver; its errors become ours, and what may pass is tried again."""

        def attempt() -> T:
            try:
                return function(*args, **options)
            except Exception as error:
                raise translated(error, self._shown(path), self._redact(f"{type(error).__name__}: {error}")) from error

        return attempting(f"{self._protocol} {self._options.get('endpoint_url')}", attempt)

    def _shown(self, path: str) -> str:
        """The URL without what may be secret in it: a password, or the signature in a query."""
        return re.sub(r"//[^/@]*@", "//", self.url_of(path)).partition("?")[0]

    def _redact(self, message: str) -> str:
        return redacted(message, self._options)

    def leftovers(self) -> Iterator[Leftover]:
        return iter(())

    def remove_leftover(self, leftover: Leftover) -> None:
        raise AssertionError(f"{self.url} has no leftovers")


class _S3Storage(_RemoteStorage):
    """A bucket, or a prefix in one: with the driver's access to S3's own operations."""

    def _connect(self, options: Mapping[str, Any]) -> tuple[Any, str]:
        system, root = super()._connect(s3.with_config(options))
        system.retries = 1  # botocore's are the better ones: with jitter
        return system, root

    @property
    def reads_one_version(self) -> bool:
        return True

    @property
    def _bucket_and_root(self) -> tuple[str, str]:
        bucket, _, root = self._driver[1].partition("/")
        return bucket, root + "/" if root else ""

    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        # By pages of keys, which come in order: the driver's own listing would hold a whole folder.
        root = self._bucket_and_root[1]
        for page in self._pages("list_objects_v2", prefix, **({"Delimiter": "/"} if max_depth == 1 else {})):
            for item in page.get("Contents", ()):
                path = item["Key"][len(root) :]
                if not (path.endswith("/") or (max_depth is not None and path.count("/", len(prefix)) >= max_depth)):
                    yield entry_of(path, {"size": item["Size"], "ETag": item["ETag"]})

    def _pages(self, method: str, prefix: str, **request: str) -> Iterator[dict[str, Any]]:
        bucket, root = self._bucket_and_root
        following: dict[str, str] | None = {}
        while following is not None:
            asked = {"Bucket": bucket, "Prefix": root + prefix} | request | following
            page = self._call("", self._driver[0].call_s3, method, **asked)
            yield page
            following = s3.next_page(page)

    def _range(self, path: str, entry: Entry, start: int, stop: int) -> bytes:
        system = self._driver[0]
        try:
            found = sync(system.loop, s3.read_range, system, self._place(path), start, stop, entry.fingerprint)
        except OSError as error:
            if status_of(error) == 412:
                raise self._changed(path) from error
            raise
        return cast(bytes, found)

    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        self._create(path, "put_file", str(local), lambda: local.open("rb"), exclusive, **s3.UPLOAD)

    def leftovers(self) -> Iterator[Leftover]:
        root = self._bucket_and_root[1]
        for page in self._pages("list_multipart_uploads", ""):
            for upload in page.get("Uploads", ()):
                path, begun_at = upload["Key"][len(root) :], upload["Initiated"].timestamp()
                yield Leftover(path=path, begun_at=begun_at, upload_id=upload["UploadId"])

    def remove_leftover(self, leftover: Leftover) -> None:
        bucket, root = self._bucket_and_root
        request = {"Bucket": bucket, "Key": root + leftover.path, "UploadId": leftover.upload_id}
        with contextlib.suppress(StorageNotFound):
            self._call(leftover.path, self._driver[0].call_s3, "abort_multipart_upload", **request)


def _check_driver(protocol: str, options: Mapping[str, Any]) -> None:
    try:
        driver = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        advice = f"pip install 'shardmill[{extra}]'" if extra else str(error)
        raise SpecError(f"{protocol}:// needs a driver that is not installed: {advice}") from error
    except ValueError as error:
        raise SpecError(
            f"{protocol}:// is no kind of URL that fsspec knows; expected s3://, gs://, az://, ..."
        ) from error
    if protocol in s3.PROTOCOLS:
        # s3fs ignores what it does not know, and a misspelt endpoint_url would silently mean AWS.
        known = {*inspect.signature(driver.__init__).parameters, "skip_instance_cache"} - {"self", "kwargs"}
        for name in sorted(options.keys() - known):
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(sorted(known))}."
            raise SpecError(f"storage.{name}: no option of {protocol}://{advice}")
