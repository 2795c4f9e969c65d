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
    """A new folder in TMPDIR, locked while its process lives.

    Making one removes those that nobody has locked: a process that was killed left them, and the system its locks.
    Locks hold across containers that share the disk, where process numbers would say nothing.
    """

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Removes the folder with what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


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
