"""A store in memory that misbehaves on request: late listings, outages, replies that are lost, callers that die."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.entries import Entry, Leftover
from pipeline.errors import CommitConflict, StorageNotFound, StorageUnavailable
from pipeline.storage import Storage

if TYPE_CHECKING:
    from tests.simulation.world import World


class Killed(BaseException):
    """The caller's process has ended here: nothing of it runs any more."""


class Caller:
    """Somebody who uses the store: a driver or a worker."""

    def __init__(self, name: str, *, is_driver: bool = False) -> None:
        self.name = name
        self.is_driver = is_driver
        self.dead = False
        self.is_paused = False
        self.slept_at = 0  # number of the operation at which it was last paused for longer than a lease lasts
        self.listed_at = 0  # number of the store's operation that began the last listing of the folder


class SimStorage(Storage):
    """The store as one caller sees it."""

    def __init__(self, world: World, caller: Caller) -> None:
        super().__init__("sim://out")
        self._world = world
        self._caller = caller

    is_local = False  # type: ignore[assignment]

    def below(self, path: str) -> Storage:
        raise NotImplementedError

    def list(self, prefix: str = "", *, max_depth: int | None = None) -> Iterator[Entry]:
        world = self._world
        world.before_operation(self._caller, f"list {prefix}")
        if not prefix:
            self._caller.listed_at = world.num_operations
        seen = [(path, len(body)) for path, body in sorted(world.files.items()) if path.startswith(prefix)]
        for path, size_bytes in seen:  # whatever others remove while its reader goes through it
            if world.visible_at.get(path, 0.0) <= world.now:
                yield Entry(path=path, size_bytes=size_bytes, fingerprint="1")

    def stat(self, path: str = "") -> Entry | None:
        self._world.before_operation(self._caller, f"stat {path}")
        found = self._world.files.get(path)
        return None if found is None else Entry(path=path, size_bytes=len(found), fingerprint="1")

    def open_file(self, path: str = "", **options: Any) -> BinaryIO:
        return io.BytesIO(self.read_bytes(path))

    def read_bytes(self, path: str) -> bytes:
        self._world.before_operation(self._caller, f"read {path}")
        try:
            return self._world.files[path]
        except KeyError:
            raise StorageNotFound(f"{path} does not exist") from None

    def write_bytes(self, path: str, data: bytes, *, exclusive: bool = False) -> None:
        self._world.before_operation(self._caller, f"write {path}")
        if exclusive and self._world.is_exclusive and path in self._world.files:
            raise CommitConflict(f"{path} is there already")
        self._world.put(self._caller, path, data)
        self._world.after_write(self._caller, path)

    def put_file(self, local: Path, path: str, *, exclusive: bool = True) -> None:
        self.write_bytes(path, local.read_bytes(), exclusive=exclusive)

    def fetch(self, path: str, local: Path) -> None:
        raise NotImplementedError

    def remove(self, path: str) -> None:
        self._world.before_operation(self._caller, f"remove {path}")
        self._world.drop(self._caller, path)
        self._world.after_write(self._caller, path)

    def leftovers(self) -> Iterator[Leftover]:
        return iter(())

    def remove_leftover(self, leftover: Leftover) -> None:
        raise NotImplementedError


def unavailable(why: str) -> StorageUnavailable:
    return StorageUnavailable(f"simulated: {why}")
