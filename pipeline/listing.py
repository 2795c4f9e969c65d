"""From the URLs that a user gives to input files: folders, globs, saved data sets, and which format each file has."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from pipeline.ahead import map_ahead
from pipeline.entries import Entry
from pipeline.errors import FileUnreadable, InputError, InputNotFound, SpecError, StorageNotFound
from pipeline.formats.source import Source
from pipeline.options import InputOptions
from pipeline.storage import Storage
from pipeline.units import Format, InputFile

logger = logging.getLogger(__name__)

Compression = Literal["gzip", "zstd", "bz2", "xz"]

_HEAD_BYTES = 256
_STREAM_MAGIC = b"\xff\xff\xff\xff"
_WILDCARD = re.compile(r"[*?\[]")
_CANNOT_BE_TOLD = "can be told neither by name nor by content; set it to one of: parquet, arrow, jsonl, csv, text."
_FORMATS: dict[str, Format] = {
    ".parquet": "parquet", ".pq": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "jsonl",
    ".csv": "csv",
    ".txt": "text", ".text": "text",
    ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "parquet"), (b"ARROW1", "arrow"), (_STREAM_MAGIC, "arrow-stream"),
)  # fmt: skip
_COMPRESSION_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ", "xz"),
)  # fmt: skip
# Formats that can be compressed as a whole; the others do it inside, whatever the name says (`x.parquet.gz`).
_COMPRESSIBLE: frozenset[Format] = frozenset({"jsonl", "csv", "text"})
# What lies beside data and would be taken for it.
_NOT_DATA = frozenset({"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"})


def list_files(source: InputOptions) -> Iterator[InputFile]:
    """The input files: in the order of the given URLs, and sorted by URL within each. Streams.

    A URL is a file, a folder (with all folders below it), a glob (`*`, `?`, `[...]` in a name, `**` across folders),
    a folder that `datasets` saved (all splits in their order; the folder of one split gives that alone), or a data set
    on the Hub, `hf://datasets/ID` (all its Parquet, JSON Lines, CSV and Arrow files; a path or glob behind it chooses).
    Names that begin with a dot or an underscore are passed over in folders and globs. A file that several URLs lead to
    comes once.

    With format `auto` the format is told by the name, else by the first bytes. Files in folders and globs of which
    neither tells are passed over with a warning.

    With fingerprint `content` every file is read here, a few at a time.

    Raises:
        FileChanged: with fingerprint `content`, a file that was replaced while it was read.
        InputNotFound: nothing is there, or a glob matches nothing.
        SpecError: a file's format cannot be told; or a URL is of a kind that is not known.
        StorageError: storage refused, or was not available for too long.
    """
    files = _each_once([_Given.of(url, source) for url in source.url])
    if source.fingerprint == "auto":
        yield from files
        return
    for file, digest in map_ahead(lambda file: (file, Source.of(file, source.storage).digest()), files):
        yield replace(file, fingerprint=digest, version=file.fingerprint)


def _each_once(given: Sequence[_Given]) -> Iterator[InputFile]:
    for index, one in enumerate(given):
        for file in one.files():
            if not any(earlier.covers(file.url) for earlier in given[:index]):
                yield file


def fixed_part(url: str) -> tuple[str, str]:
    """Cuts a URL before the first name that has a wildcard, or before its last name if there is none."""
    scheme, separator, path = url.rpartition("://")
    wild = _WILDCARD.search(path)
    stop = path.rfind("/", 0, wild.start() if wild else len(path)) + 1
    return scheme + separator + path[:stop], path[stop:]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """One URL that the user gave."""

    storage: Storage  # rooted there, or with a glob where its fixed part ends
    pattern: str | None  # the rest of a glob
    source: InputOptions

    @classmethod
    def of(cls, url: str, source: InputOptions) -> _Given:
        storage = Storage.open(url, source.storage)
        fixed, pattern = fixed_part(storage.url)
        has_wildcard = _WILDCARD.search(pattern) is not None
        if not has_wildcard or url.startswith(("http://", "https://")) or _is_there_literally(storage):
            return cls(storage=storage, pattern=None, source=source)
        return cls(storage=Storage.open(fixed, source.storage), pattern=pattern, source=source)

    @property
    def url(self) -> str:
        return self.storage.url_of(self.pattern or "")

    def covers(self, url: str) -> bool:
        """Whether this one leads to a file too."""
        if url == self.storage.url:
            return self.pattern is None
        path = url.removeprefix(self.storage.url + "/")
        return path != url and self._takes(path)

    def files(self) -> Iterator[InputFile]:
        try:
            yield from self._files()
        except StorageNotFound as error:
            raise InputNotFound(f"input.url: {error}") from error

    def _files(self) -> Iterator[InputFile]:
        if self.pattern is None and (entry := self.storage.stat()) is not None:
            yield self._named_file(entry)
            return
        if self.pattern is None and self.source.format in ("auto", "datasets"):
            saved = list(_saved_files(self.storage))
            yield from saved
            if saved:
                return
        if self.source.format == "datasets":
            raise InputNotFound(
                f"input.url: {self.url} is no folder that `datasets` saved: it has neither state.json nor "
                "dataset_dict.json."
            )
        num_files = num_unknown = 0
        for entry, file in map_ahead(self._recognised, self._entries()):
            if file is not None:
                num_files += 1
                yield file
            else:
                num_unknown += 1
                logger.warning("passed over %s: its format cannot be told", self.storage.url_of(entry.path))
        if num_unknown and not num_files:
            raise SpecError(f"input.format: the format of the {num_unknown} files at {self.url} {_CANNOT_BE_TOLD}")
        if not num_files:
            what = "nothing matches" if self.pattern else "no such file or folder, or nothing in it:"
            raise InputNotFound(f"input.url: {what} {self.url}")

    def _entries(self) -> Iterator[Entry]:
        pattern = self.pattern or ""
        wildcard = _WILDCARD.search(pattern)
        prefix = pattern[: wildcard.start()] if wildcard else ""
        max_depth = pattern.count("/") + 1 if pattern and "**" not in pattern else None
        return (entry for entry in self.storage.list(prefix, max_depth=max_depth) if self._takes(entry.path))

    def _takes(self, path: str) -> bool:
        """Whether a file below the root is meant by this URL."""
        if self.pattern is not None and re.fullmatch(_as_regex(self.pattern), path) is None:
            return False
        names = path.split("/")
        hidden_wanted = self.pattern is not None and re.search(r"(^|/)[._]", self.pattern) is not None
        if names[-1] in _NOT_DATA or (not hidden_wanted and any(name.startswith((".", "_")) for name in names)):
            return False
        # Data sets on the Hub have a README and scripts beside their data.
        return not self.storage.url.startswith("hf://") or _by_name(path)[0] not in (None, "text")

    def _named_file(self, entry: Entry) -> InputFile:
        if self.source.format == "datasets":
            raise SpecError(f"input.format: {self.url} is a file; what `datasets` saves is a folder.")
        _, file = self._recognised(entry)
        if file is None:
            raise SpecError(f"input.format: the format of {self.url} {_CANNOT_BE_TOLD}")
        return file

    def _recognised(self, entry: Entry) -> tuple[Entry, InputFile | None]:
        """The entry as an input file, or None if its format cannot be told."""
        url = self.storage.url_of(entry.path)
        by_name, compression = _by_name(url.partition("?")[0])
        wanted = self.source.format
        kind = by_name if wanted in ("auto", "datasets") else cast(Format, wanted)
        file = _input_file(url, entry, kind or "text")
        if kind == "arrow":
            head = _head(Source.of(file, self.source.storage))
            return entry, replace(file, format="arrow-stream") if head.startswith(_STREAM_MAGIC) else file
        if kind is not None:
            return entry, replace(file, compression=compression) if kind in _COMPRESSIBLE else file
        return entry, _by_content(file, self.source)


def _is_there_literally(storage: Storage) -> bool:
    """Whether a path with wildcard characters in it is just a name."""
    return storage.is_local and (storage.stat() is not None or next(storage.list(), None) is not None)


def _as_regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    wild = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        wild.get(part) or (part.replace("[!", "[^") if part[:1] == "[" else re.escape(part)) for part in parts
    )


def _input_file(url: str, entry: Entry, kind: Format) -> InputFile:
    return InputFile(url=url, format=kind, size_bytes=entry.size_bytes, fingerprint=entry.fingerprint)


def _by_name(path: str) -> tuple[Format | None, Compression | None]:
    suffixes = PurePosixPath(path.lower()).suffixes
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    return (_FORMATS.get(suffixes[-1]) if suffixes else None), compression


def _by_content(file: InputFile, source: InputOptions) -> InputFile | None:
    head = _head(Source.of(file, source.storage))
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return replace(file, format=kind)
    for magic, compression in _COMPRESSION_MAGIC:
        if head.startswith(magic):
            file = replace(file, compression=compression)
            head = _head(Source.of(file, source.storage))
    # Any text could be plain text or CSV; only the bracket of an object says more.
    return replace(file, format="jsonl") if head.lstrip().startswith(b"{") else None


def _head(source: Source) -> bytes:
    try:
        with source.open_decompressed() as file:
            return file.read(_HEAD_BYTES)
    except FileUnreadable:
        return b""


def _saved_files(storage: Storage) -> Iterator[InputFile]:
    """The files of a folder that `datasets` saved, in the order of its rows; nothing if it is no such folder."""
    if (split := _json(storage, "state.json")) is not None:
        for name in _names(storage, "state.json", lambda: [item["filename"] for item in split["_data_files"]]):
            entry = storage.stat(name)
            if entry is None:
                raise InputNotFound(f"input.url: {storage.url}/state.json names {name}, which is not there.")
            yield _input_file(storage.url_of(entry.path), entry, "arrow-stream")
    elif (splits := _json(storage, "dataset_dict.json")) is not None:
        for name in _names(storage, "dataset_dict.json", lambda: list(splits["splits"])):
            yield from _saved_files(storage.below(name))


def _json(storage: Storage, path: str) -> Any:
    if not storage.exists(path):
        return None
    try:
        return json.loads(storage.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{storage.url_of(path)} is not JSON: the saved data set is damaged.") from error


def _names(storage: Storage, path: str, listed: Callable[[], list[Any]]) -> list[str]:
    """The files or folders beside it that a file of `datasets` lists."""
    try:
        names = listed()
    except (KeyError, TypeError):
        names = [None]
    if not all(isinstance(name, str) and re.fullmatch(r"[^/]*[^/.][^/]*", name) for name in names):
        raise InputError(f"{storage.url_of(path)} does not list names: the saved data set is damaged.")
    return names
