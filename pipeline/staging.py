"""A folder for files on their way to storage, which does not outlive its process for long."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "shardmill-staged-"
YOUNG_S = 60.0  # a folder that is younger may be one that somebody is about to lock


class StagingFolder:
    """A folder in TMPDIR, locked while its process lives. It is there while something is in it: workers are killed when
    nothing is left for them to do, and leave nothing then.

    The first removes those that nobody has locked: a process that was killed left them, and the system its locks.
    Locks hold across containers that share the disk, where process numbers would say nothing.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lock = -1
        _remove_abandoned(Path(tempfile.gettempdir()))

    def make(self) -> Path:
        """The folder, made if it is not there."""
        if self._path is not None and not self._path.is_dir():
            self.remove()  # somebody cleans TMPDIR
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = os.open(self._path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._path

    def remove_if_empty(self) -> None:
        """Removes the folder if nothing is in it."""
        with suppress(FileNotFoundError):  # somebody cleans TMPDIR
            if self._path is not None and not any(self._path.iterdir()):
                self.remove()

    def remove(self) -> None:
        """Removes the folder with what is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = None


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or removed by another worker that starts just now
            if time.time() - folder.stat().st_mtime < YOUNG_S:
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                logger.info("removed %s, which a worker left behind", folder)
            finally:
                os.close(lock)
