"""One input file, opened for a format; and what a format gives."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import xxhash

from pipeline.entries import Entry
from pipeline.errors import FileChanged, FileUnreadable, ShardmillError, StorageNotFound
from pipeline.storage import Storage
from pipeline.units import InputFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A range of a file that may become a piece of its own, in the counts of `Piece.start` and `stop`."""

    start: int
    stop: int | None
    num_rows: int | None  # None where it cannot be told without reading the rows
    size_bytes: int  # of text, as well as it can be told
    divisible: bool = False  # start and stop are bytes, and it may be cut anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of a file, in order."""

    batch: pa.RecordBatch
    errors: dict[int, str] = field(default_factory=dict)  # row in the batch -> why it could not be parsed; it is null


class Format(Protocol):
    """What is known of one file format. Without state; called from several threads."""

    def schema(self, source: Source) -> pa.Schema:
        """The columns of a file; where the format has no types, inferred from its first rows."""
        ...

    def blocks(self, source: Source, texts: Sequence[str]) -> Iterator[Block]:
        """Where a file can be cut, in order and without gaps, without reading its rows. None for a file without rows.

        Args:
            texts: the columns by whose size blocks are measured, where the format tells.
        """
        ...

    def read(self, source: Source, start: int, stop: int | None, schema: pa.Schema, batch_rows: int) -> Iterator[Rows]:
        """The rows of a range, with exactly the columns and types of `schema`.

        Raises:
            FileUnreadable: it is damaged, lacks a column, or has another type there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input file and the way to its bytes."""

    file: InputFile
    storage: Storage  # rooted at the file itself

    @classmethod
    def of(cls, file: InputFile, storage_options: Mapping[str, Any]) -> Source:
        return cls(file=file, storage=Storage.open(file.url, storage_options))

    @property
    def url(self) -> str:
        return self.file.url

    @property
    def _version(self) -> str:
        """What the store said of the file when it was planned."""
        return self.file.fingerprint if self.file.version is None else self.file.version

    def as_planned(self) -> Source:
        """The source, if its file is still the one that was planned.

        A file that is known by a digest, and was only written again, is read once more to compare: the source given is
        that of the new version.

        Raises:
            FileChanged: it is not.
        """
        now = self.storage.stat()
        if now is not None and now.fingerprint == self._version:
            return self
        if now is not None and self.file.version is not None:
            again = replace(self, file=replace(self.file, size_bytes=now.size_bytes, version=now.fingerprint))
            if again.digest() == self.file.fingerprint:
                return again
        found = "it is gone" if now is None else f"found {now.size_bytes} bytes with mark {now.fingerprint}"
        raise FileChanged(
            f"{self.url} is not the file that was planned ({self.file.size_bytes} bytes with mark "
            f"{self._version}): {found}. Run the job again: it will be planned anew."
        )

    def check_unchanged(self) -> None:
        """Raises `FileChanged` if the file is another one by now; S3 has seen to that at every read."""
        if self.storage.reads_one_version:
            return
        now = self.storage.stat()
        if now is None or now.fingerprint != self._version:
            raise FileChanged(f"{self.url} was replaced while it was read. Run the job again: it will be planned anew.")

    def digest(self) -> str:
        """Of all the bytes, as they are stored.

        Raises:
            FileChanged: they changed meanwhile.
        """
        digest = xxhash.xxh3_128()
        with self.open() as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        self.check_unchanged()
        return f"xxh3-128:{digest.hexdigest()}"

    @contextlib.contextmanager
    def open(self, *, buffer_bytes: int = 1 << 20) -> Iterator[BinaryIO]:
        """The bytes as they are stored; seekable. What goes wrong inside becomes `FileUnreadable`."""
        listed = Entry(path="", size_bytes=self.file.size_bytes, fingerprint=self._version)
        with self.reading(), self.storage.open_file(buffer_bytes=buffer_bytes, expected=listed) as file:
            yield file

    @contextlib.contextmanager
    def open_decompressed(self) -> Iterator[BinaryIO]:
        """The bytes after decompression; read from the beginning to the end."""
        with self.open() as file, _decompressed(file, self.file.compression) as content:
            yield content

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turns what libraries raise on damaged bytes into `FileUnreadable`, and lets our own errors through."""
        try:
            yield
        except StorageNotFound as error:
            raise FileChanged(f"{self.url} is gone since it was planned. Run the job again.") from error
        except FileChanged:
            raise
        except FileUnreadable:
            self.check_unchanged()  # what was written anew meanwhile need not be damaged
            raise
        except ShardmillError:
            raise
        except (
            pa.ArrowException, EOFError, OSError, ValueError, struct.error, zlib.error, lzma.LZMAError
        ) as error:  # fmt: skip
            self.check_unchanged()
            raise self.unreadable(f"{type(error).__name__}: {str(error).partition(os.linesep)[0][:200]}") from error

    def unreadable(self, reason: str) -> FileUnreadable:
        return FileUnreadable(f"{self.url} cannot be read as {self.file.format}: {reason}")


def _decompressed(file: BinaryIO, compression: str | None) -> contextlib.AbstractContextManager[BinaryIO]:
    match compression:
        case None:
            return contextlib.nullcontext(file)
        case "gzip":
            return cast("contextlib.AbstractContextManager[BinaryIO]", gzip.GzipFile(fileobj=file))
        case "bz2":
            return cast("contextlib.AbstractContextManager[BinaryIO]", bz2.BZ2File(file))
        case "xz":
            return cast("contextlib.AbstractContextManager[BinaryIO]", lzma.LZMAFile(file))
        case _:
            # Not zstandard's own reader: that one takes a truncated file for a whole one.
            return cast("contextlib.AbstractContextManager[BinaryIO]", pa.CompressedInputStream(file, "zstd"))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are strings, whatever their layout."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def check_columns(source: Source, found: pa.Schema, wanted: pa.Schema) -> None:
    """Raises `FileUnreadable` unless the file has every wanted column with the type that holds for the job.

    Strings may differ in layout, and a column of nothing but nulls fits any type.
    """
    for column in wanted:
        kinds = [other.type for other in found if other.name == column.name]
        if len(kinds) != 1:
            has = "has it more than once" if kinds else f"has only {', '.join(sorted(found.names)) or 'none'}"
            raise source.unreadable(f"the job's files have the column {column.name!r} ({column.type}); this one {has}.")
        (kind,) = kinds
        if not (kind.equals(column.type) or pa.types.is_null(kind) or (is_text(kind) and is_text(column.type))):
            raise source.unreadable(
                f"the column {column.name!r} is {column.type} in the job's first file, and {kind} here."
            )


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns and types of `schema`, after `check_columns`; copies only what must be cast."""
    columns = []
    for column in schema:
        values = batch.column(column.name)
        columns.append(values if values.type.equals(column.type) else values.cast(column.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
