"""Which version of which file there is, at some thirty bytes a file: a listing may have millions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

from pipeline.units import InputFile

_DIGEST = np.dtype("S16")  # numpy takes zeros at its end for padding: harmless, as all digests are of one length


class Versions:
    """The files of a listing by URL. Each URL has a place, from 0 up; the order of places means nothing.

    Held are digests: of the URL 128 bits, so that no two of them are taken for one, and 64 of the fingerprint.
    """

    def __init__(self, files: Iterable[InputFile]) -> None:
        urls, versions = bytearray(), array("Q")
        for file in files:
            urls += xxhash.xxh3_128_digest(file.url.encode())
            versions.append(xxhash.xxh3_64_intdigest(file.fingerprint.encode()))
        self._urls, first, self._places = np.unique(
            np.frombuffer(urls, _DIGEST), return_index=True, return_inverse=True
        )
        self._versions = np.frombuffer(versions, np.uint64)[first]

    def __len__(self) -> int:
        return len(self._urls)

    def place(self, url: str) -> int | None:
        """The place of a file, or None if it is not in the listing."""
        wanted = np.frombuffer(xxhash.xxh3_128_digest(url.encode()), _DIGEST)
        place = int(np.searchsorted(self._urls, wanted)[0])
        return place if np.array_equal(self._urls[place : place + 1], wanted) else None

    def is_current(self, place: int, fingerprint: str) -> bool:
        """Whether the file at a place has this fingerprint."""
        return int(self._versions[place]) == xxhash.xxh3_64_intdigest(fingerprint.encode())

    def in_order(self, marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Marks that are sorted by place, sorted as the listing is."""
        return marks[self._places]
