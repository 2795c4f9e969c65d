"""A set of many names at about thirty bytes each: a job may have millions of units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import islice

import numpy as np
import numpy.typing as npt

_CHUNK = 10_000  # names that are Python's own strings at a time


class NameSet(Set[str]):
    """A set of names that does not change; each is given to it once."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        remaining = iter(names)
        chunks = [np.empty(0, "S1")]
        while chunk := list(islice(remaining, _CHUNK)):
            chunks.append(np.array([name.encode() for name in chunk], dtype=np.bytes_))
        self._sorted: npt.NDArray[np.bytes_] = np.concatenate(chunks)
        chunks.clear()
        self._sorted.sort()

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        wanted = name.encode()
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and bool(self._sorted[place] == wanted)

    def __iter__(self) -> Iterator[str]:
        return (name.decode() for name in self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)
