"""Files in a listing: what is known of each, and the order of whole paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, as it was when it was listed."""

    path: str  # relative to the storage's root
    size_bytes: int
    fingerprint: str  # differs when the content does: etag where the store has one, else size and time


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What a writer that was killed has left behind, where no reader looks."""

    path: str  # relative to the storage's root: of the staged file, or what an upload was to become
    begun_at: float  # seconds since the epoch; of a staged file, when it was last written to
    upload_id: str | None = None  # of an unfinished upload


def walk(
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
                yield from walk(names, stat, path[:-1], "", None if max_depth is None else max_depth - 1)
        elif (entry := found[name] or stat(path)) is not None:
            yield entry


# What drivers call a mark of the content, and the time of the last change.
_TAGS = ("ETag", "etag", "blob_id", "md5Hash")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


def entry_of(path: str, found: Mapping[str, Any]) -> Entry:
    """An entry from what a driver says of a file."""
    size = int(found.get("size") or 0)
    for tag in _TAGS:
        if found.get(tag):
            return Entry(path=path, size_bytes=size, fingerprint=str(found[tag]).strip('"'))
    changed = next((found[time] for time in _TIMES if found.get(time)), "")
    if isinstance(changed, datetime):  # the same driver may give a number elsewhere
        changed = changed.timestamp()
    return Entry(path=path, size_bytes=size, fingerprint=f"{size}-{changed}")
