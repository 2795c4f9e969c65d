"""One driver at a time: a lease in the output folder, renewed while the driver lives.

It spares two drivers each other's work; it is not what keeps the output right. That is the commit rule: should both
believe that they hold the lease, a part still gets there once.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from pipeline.errors import CommitConflict, OutputConflict, ShardmillError
from pipeline.output import ROOT
from pipeline.storage import Storage

logger = logging.getLogger(__name__)

LEASE = f"{ROOT}/lease.json"
RENEW_S = 10.0
STALE_S = 60.0  # without renewal: the driver is gone, or cut off from the storage


class Lease:
    """The right to drive a job, held from `with` to its end and renewed by a thread of its own."""

    def __init__(self, output: Storage, run_id: str) -> None:
        self._output = output
        self._run_id = run_id
        self._ended = threading.Event()
        self._taken_by = ""
        self._thread = threading.Thread(target=self._renew_until_end, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Takes the lease.

        Raises:
            OutputConflict: another driver holds it, and it is alive as far as one can tell.
        """
        try:
            self._write(exclusive=True)
        except CommitConflict:
            holder = self._holder()
            if holder and not _is_gone(holder):
                age_s = max(0.0, time.time() - holder["renewed_at"])
                raise OutputConflict(
                    f"{self._output.url} is being written by run {holder['run_id']} on {holder['host']}, which gave a "
                    f"sign of life {age_s:.0f} s ago. Wait for it to end; if it is dead, try again "
                    f"in {max(1.0, STALE_S - age_s):.0f} s."
                ) from None
            logger.warning("the driver of run %s is gone: taking over", holder["run_id"] if holder else "unknown")
            self._write(exclusive=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if not self._taken_by:
            with suppress(ShardmillError):  # a lease that stays goes stale by itself
                self._output.remove(LEASE)

    def check(self) -> None:
        """Makes sure that nobody has taken the lease over.

        Raises:
            OutputConflict: somebody has; to go on would be to do their work.
        """
        if self._taken_by:
            raise OutputConflict(
                f"run {self._taken_by} has taken over {self._output.url}: this driver was silent for too long. "
                "What it committed counts; the other run goes on."
            )

    def _renew_until_end(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                holder = self._holder()
                if holder and holder["run_id"] != self._run_id:
                    self._taken_by = str(holder["run_id"])
                    return
                self._write(exclusive=False)
            except ShardmillError as error:
                logger.warning("the lease could not be renewed: %s", error)  # it is good for some renewals more

    def _holder(self) -> dict[str, Any] | None:
        """Who holds the lease; None if nobody does, or it cannot be read."""
        with suppress(ShardmillError, ValueError):
            holder = json.loads(self._output.read_bytes(LEASE))
            if {"run_id", "host", "pid", "renewed_at"} <= holder.keys():
                return dict(holder)
        return None

    def _write(self, *, exclusive: bool) -> None:
        holder = {"run_id": self._run_id, "host": socket.gethostname(), "pid": os.getpid(), "renewed_at": time.time()}
        self._output.write_bytes(LEASE, json.dumps(holder).encode(), exclusive=exclusive)


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a lease is stale, or its driver was on this machine and has ended."""
    if time.time() - holder["renewed_at"] > STALE_S:
        return True
    return holder["host"] == socket.gethostname() and not _is_alive(int(holder["pid"]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # somebody else's process may not be asked, but is there
    return True
