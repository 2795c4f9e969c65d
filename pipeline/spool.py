"""A listing that is made once, put aside in a temporary file, and read back as often as it is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from io import FileIO
from itertools import islice

from pipeline.storage_errors import local_errors
from pipeline.units import InputFile

CHUNK_FILES = 1000  # held at a time, both ways
_FIELDS = tuple(field.name for field in dataclasses.fields(InputFile))


class Listing(Collection[InputFile]):
    """Input files in their order: there may be millions, and memory holds a thousand of them at a time."""

    def __init__(self, files: Iterable[InputFile], spool: FileIO) -> None:
        self.size_bytes = 0  # of all files together
        self._num_files = 0
        self._spool = spool
        self._chunks: list[tuple[int, int]] = []  # place and length in the spool
        remaining = iter(files)
        while chunk := list(islice(remaining, CHUNK_FILES)):
            self._num_files += len(chunk)
            self.size_bytes += sum(file.size_bytes for file in chunk)
            rows = [[getattr(file, name) for name in _FIELDS] for file in chunk]
            self._put_aside(zlib.compress(json.dumps(rows).encode(), level=1))

    def _put_aside(self, chunk: bytes) -> None:
        with local_errors(tempfile.gettempdir()):
            self._chunks.append((self._spool.tell(), len(chunk)))
            left = memoryview(chunk)
            while left:
                left = left[self._spool.write(left) :]

    def __len__(self) -> int:
        return self._num_files

    def __iter__(self) -> Iterator[InputFile]:
        for start, length in self._chunks:  # without a common position: two may read at the same time
            chunk = zlib.decompress(os.pread(self._spool.fileno(), length, start))
            for row in json.loads(chunk):
                yield InputFile(**dict(zip(_FIELDS, row, strict=True)))

    def __contains__(self, file: object) -> bool:
        return any(file == other for other in self)


@contextlib.contextmanager
def spooled(files: Iterable[InputFile]) -> Iterator[Listing]:
    """Lists to the end; the temporary file has no name, and goes with this context or with the process.

    Raises:
        StorageError: TMPDIR is full.
    """
    # Without a buffer, which on a full disk would fail once more when it is closed.
    with tempfile.TemporaryFile(prefix="shardmill-listing-", buffering=0) as spool:
        yield Listing(files, spool)
