"""Writing a local file whole or not at all, so that it is still there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import CommitConflict

_STAGED = re.compile(r"\..+\.[0-9a-f]{8}\.staged")


def create_durably(target: str, write: Callable[[Path], Any], *, exclusive: bool) -> None:
    """Writes beside the target under a hidden name, makes that durable, then gives it its name in one step.

    Args:
        target: absolute; its folder is made if need be.
        write: writes the content to the path that it is given.

    Raises:
        CommitConflict: `exclusive`, and the target is there already.
        OSError: no space, no right, ...; nothing is left behind.
    """
    folder, name = os.path.split(target)
    staged = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.staged")
    _make_folder(folder)
    try:
        write(Path(staged))
        _sync(staged)
        if exclusive:
            _link(staged, target)
        else:
            os.replace(staged, target)
        _sync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(staged)


def is_staged(path: str) -> bool:
    """Whether a file has such a hidden name: it is being written, or its writer was killed."""
    return _STAGED.fullmatch(os.path.basename(path)) is not None


def _make_folder(folder: str) -> None:
    """Makes a folder with those above it; that each is there is durable too."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make_folder(above)
    os.makedirs(folder, exist_ok=True)  # another writer may be as far
    _sync(above)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(staged: str, target: str) -> None:
    try:
        os.link(staged, target)
    except FileExistsError as error:
        if not os.path.samefile(staged, target):  # on a network file system it may be ours, and the reply was lost
            raise CommitConflict(f"{target} is there already.") from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        # Some network and user-space file systems have no hard links: a look before the rename is all they allow.
        if os.path.exists(target):
            raise CommitConflict(f"{target} is there already.") from error
        os.replace(staged, target)
