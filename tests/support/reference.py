"""The reference: transformers v4, the version whose behaviour we follow, in a process of its own.

v5 is importable in the tests themselves; v4 and the older tokenizers that it needs lie in an overlay that
`make setup` fills. `v4(function, *args)` runs a module-level function of tests/support there. One process is
started at the first call and lives until the tests end, so that a call costs no import.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

OVERLAY = Path(sys.prefix) / "reference-v4"
ROOT = Path(__file__).resolve().parents[2]

P = ParamSpec("P")
R = TypeVar("R")


class ReferenceFailure(Exception):
    """The function raised in the reference process; `kind` is the class name of what it raised."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind} in the reference process\n{text}")
        self.kind = kind


def v4(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs `function(*args, **kwargs)` under transformers v4 and returns its result; all of it is pickled.

    Raises:
        ReferenceFailure: the function raised.
    """
    process = _child()
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump((function.__module__, function.__name__, args, kwargs), process.stdin)
    process.stdin.flush()
    succeeded, result = pickle.load(process.stdout)
    if not succeeded:
        raise ReferenceFailure(*result)
    return result


@cache
def _child() -> subprocess.Popen[bytes]:
    if not (OVERLAY / "transformers").is_dir():
        raise RuntimeError(f"no transformers v4 in {OVERLAY}: run `make setup`")
    environment = os.environ | {"PYTHONPATH": f"{OVERLAY}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.reference"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )

    def stop() -> None:
        process.communicate()

    atexit.register(stop)
    return process


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    from importlib import import_module

    while True:
        try:
            module, name, args, kwargs = pickle.load(requests)
        except EOFError:
            return
        try:
            reply = (True, getattr(import_module(module), name)(*args, **kwargs))
            payload = pickle.dumps(reply)
        except Exception as error:
            payload = pickle.dumps((False, (type(error).__name__, traceback.format_exc())))
        replies.write(payload)
        replies.flush()


if __name__ == "__main__":
    # What the reference prints must not mix with the replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _serve(sys.stdin.buffer, replies)
