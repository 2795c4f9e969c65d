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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.core import url_to_fs

from pipeline.durable import create_durably
from pipeline.errors import CommitConflict, SpecError, StorageNotFound
from pipeline.storage_errors import local_errors, retrying, translated

READ_BUFFER_BYTES = 1 << 20  # of a remote file: least that one request asks for

_EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}
_S3_PROTOCOLS = frozenset({"s3", "s3a"})
_S3_UPLOAD = {"chunksize": 16 << 20, "max_concurrency": 4}  # holds 64 MiB at most; the driver's own choice is 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, as it was when it was listed."""

    path: str  # relative to the storage's root
    size_bytes: int
    fingerprint: str  # differs when the content does: etag where the store has one, else size and time


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
        return _RemoteStorage(url, options or {})

    @property
    @abstractmethod
    def is_local(self) -> bool: ...

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
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, size_bytes: int | None = None
    ) -> BinaryIO:
        """Opens a file for reading; it can seek, and reads no more than asked for or `buffer_bytes` ahead.

        Args:
            size_bytes: where it is known; saves a remote store a question.

        Raises:
            StorageNotFound: it is not there; where `size_bytes` is given, perhaps only when it is read.
        """

    @abstractmethod
    def read_bytes(self, path: str) -> bytes:
        """The whole content of a (small) file."""

    @abstractmethod
    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        """Writes a (small) file: whole or not at all.

        Raises:
            CommitConflict: `exclusive`, and it is there already.
        """

    @abstractmethod
    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        """Copies a local file here: whole or not at all; `local` stays.

        Exclusive creation is as strong as the store: atomic on local disks and on stores that honour conditional
        writes (S3 `If-None-Match`, GCS generations); elsewhere a look before the write.

        Raises:
            CommitConflict: `exclusive`, and it is there already.
        """

    @abstractmethod
    def fetch(self, path: str, local: Path) -> None:
        """Copies a file from here to a local path, making its folder."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file; it is no error if it is gone."""


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
            yield from _walk(self._names, self.stat, folder, stem, max_depth)

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
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, size_bytes: int | None = None
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
        return _RemoteStorage, (self.url, self._options)

    @property
    def is_local(self) -> bool:
        return False

    @functools.cached_property
    def _driver(self) -> tuple[Any, str]:
        """The fsspec file system, and the root as a path in it."""
        try:
            system, root = url_to_fs(self.url, **self._options)
        except (TypeError, ValueError, KeyError) as error:
            raise SpecError(f"{self._shown('')}: its storage options do not fit: {self._redact(str(error))}") from error
        return system, root.rstrip("/")

    def _place(self, path: str) -> str:
        root = self._driver[1]
        return f"{root}/{path}" if path else root

    def below(self, path: str) -> Storage:
        return _RemoteStorage(self.url_of(path), self._options)

    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        if self._protocol in _S3_PROTOCOLS:
            return self._list_s3(prefix, max_depth)
        folder, _, stem = prefix.rpartition("/")
        return _walk(self._names, self.stat, folder, stem, max_depth)

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
            yield name, is_folder, None if is_folder else _entry(f"{folder}/{name}" if folder else name, item)

    def _list_s3(self, prefix: str, max_depth: int | None) -> Iterator[Entry]:
        """Pages of keys as S3 gives them, in order: the driver's own listing would hold a whole folder."""
        system = self._driver[0]
        bucket, _, root = self._driver[1].partition("/")
        root = root + "/" if root else ""
        request = {"Bucket": bucket, "Prefix": root + prefix}
        if max_depth == 1:
            request["Delimiter"] = "/"
        while True:
            page = self._call("", system.call_s3, "list_objects_v2", **request)
            for item in page.get("Contents", ()):
                path = item["Key"][len(root) :]
                if path.endswith("/") or (max_depth is not None and path.count("/", len(prefix)) >= max_depth):
                    continue
                yield _entry(path, {"size": item["Size"], "ETag": item["ETag"]})
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def stat(self, path: str = "") -> Entry | None:
        system = self._driver[0]
        system.invalidate_cache()
        try:
            found = self._call(path, system.info, self._place(path))
        except StorageNotFound as error:
            if error.container_missing:
                raise
            return None
        return _entry(path, found) if found["type"] == "file" else None

    def open_file(
        self, path: str = "", *, buffer_bytes: int = READ_BUFFER_BYTES, size_bytes: int | None = None
    ) -> BinaryIO:
        if size_bytes is None:
            entry = self.stat(path)
            if entry is None:
                raise StorageNotFound(f"{self._shown(path)} does not exist.")
            size_bytes = entry.size_bytes
        reader = _RangeReader(functools.partial(self._read_range, path), size_bytes)
        return cast(BinaryIO, io.BufferedReader(reader, buffer_bytes))

    def _read_range(self, path: str, start: int, stop: int) -> bytes:
        return cast(bytes, self._call(path, self._driver[0].cat_file, self._place(path), start=start, end=stop))

    def read_bytes(self, path: str) -> bytes:
        return cast(bytes, self._call(path, self._driver[0].cat_file, self._place(path)))

    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        self._create(path, self._driver[0].pipe_file, "_pipe_file", (self._place(path), data), exclusive)

    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        options = _S3_UPLOAD if self._protocol in _S3_PROTOCOLS else {}
        self._create(path, self._driver[0].put_file, "_put_file", (str(local), self._place(path)), exclusive, **options)

    def _create(
        self, path: str, write: Callable[..., Any], native: str, args: tuple[Any, ...], exclusive: bool, **options: Any
    ) -> None:
        if exclusive:
            # Drivers name the method after their own asynchronous one, and only that shows what it really takes.
            method = getattr(self._driver[0], native, write)
            if "mode" in inspect.signature(method).parameters:
                options["mode"] = "create"
            elif self.exists(path):
                raise CommitConflict(f"{self._shown(path)} is there already.")
        self._call(path, write, *args, **options)

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

        return retrying()(attempt)

    def _shown(self, path: str) -> str:
        """The URL without what may be secret in it: a password, or the signature in a query."""
        return re.sub(r"//[^/@]*@", "//", self.url_of(path)).partition("?")[0]

    def _redact(self, message: str) -> str:
        for name, value in self._options.items():
            if name != "endpoint_url" and isinstance(value, str) and len(value) > 3:
                message = message.replace(value, "***")
        return message


class _RangeReader(io.RawIOBase):
    """A remote file, by ranged requests."""

    def __init__(self, read_range: Callable[[int, int], bytes], size_bytes: int) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size_bytes)
        if stop <= self._position:
            return 0
        found = self._read_range(self._position, stop)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


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
    if protocol in _S3_PROTOCOLS:
        # s3fs ignores what it does not know, and a misspelt endpoint_url would silently mean AWS.
        known = {*inspect.signature(driver.__init__).parameters, "skip_instance_cache"} - {"self", "kwargs"}
        for name in sorted(options.keys() - known):
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(sorted(known))}."
            raise SpecError(f"storage.{name}: no option of {protocol}://{advice}")


def _walk(
    names: Callable[[str], Iterator[tuple[str, bool, Entry | None]]],
    stat: Callable[[str], Entry | None],
    folder: str,
    stem: str,
    max_depth: int | None,
) -> Iterator[Entry]:
    """Walks folders depth first in the order of whole paths, so that "a.txt" comes before "a/b", as in object stores.

    Args:
        names: of a folder: each name, whether it is a folder, and its entry where listing gives it for free.
        stem: what names in this folder (not further down) begin with.
    """
    found = {name + "/" * is_folder: entry for name, is_folder, entry in names(folder) if name.startswith(stem)}
    for name in sorted(found):
        path = f"{folder}/{name}" if folder else name
        if name.endswith("/"):
            if max_depth is None or max_depth > 1:
                yield from _walk(names, stat, path[:-1], "", None if max_depth is None else max_depth - 1)
        elif (entry := found[name] or stat(path)) is not None:
            yield entry


# What drivers call a mark of the content, and the time of the last change.
_TAGS = ("ETag", "etag", "blob_id", "md5Hash")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


def _entry(path: str, found: Mapping[str, Any]) -> Entry:
    """An entry from what a driver says of a file."""
    size = int(found.get("size") or 0)
    for tag in _TAGS:
        if found.get(tag):
            return Entry(path=path, size_bytes=size, fingerprint=str(found[tag]).strip('"'))
    changed = next((found[time] for time in _TIMES if found.get(time)), "")
    if isinstance(changed, datetime):  # the same driver may give a number elsewhere
        changed = changed.timestamp()
    return Entry(path=path, size_bytes=size, fingerprint=f"{size}-{changed}")
