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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.clock import Clock
from pipeline.errors import CommitConflict, OutputConflict, ShardmillError, StorageError, StorageNotFound
from pipeline.output import LEASE
from pipeline.storage import Storage

logger = logging.getLogger(__name__)

RENEW_S = 10.0
STALE_S = 60.0  # without renewal: the driver is gone, or cut off from the storage

_HOLDER: dict[str, type] = {"run_id": str, "host": str, "pid": int, "renewed_at": float}  # what a lease says at least


class LeaseRule:
    """What a driver does to the lease, one step at a time; it starts no thread and never waits."""

    def __init__(
        self,
        output: Storage,
        run_id: str,
        *,
        clock: Clock | None = None,
        is_running: Callable[[dict[str, Any]], bool | None] | None = None,
    ) -> None:
        """
        Args:
            is_running: whether a holder lives, if that can be seen from here, else None.
        """
        self._output = output
        self._run_id = run_id
        self._clock = clock or Clock()
        self._is_running = is_running or _is_running
        self._watched: dict[str, Any] | None = None
        self._stale_at = 0.0
        self._taken_by = ""
        self._renewed_at = 0.0

    def take(self) -> bool:
        """Takes the lease: at once if it is free, or its holder is seen to be dead; else once it has not been renewed
        for `STALE_S` while we watch: by our own clock, since those of two machines may differ by more than any lease
        lasts.

        Returns:
            False if it is to be tried again, some seconds later.

        Raises:
            OutputConflict: another driver holds it, and is alive.
        """
        try:
            self._write(exclusive=True)
        except CommitConflict:
            pass
        else:
            return True
        holder = self._holder()
        if holder is not None:
            alive = self._is_running(holder)
            if alive is None:
                alive = self._shows_life(holder)
                if alive is None:
                    return False
            if alive:
                raise OutputConflict(
                    f"{self._output.url} is being written by run {holder['run_id']} on {holder['host']}, which is "
                    "alive. Wait for it to end, or stop it; then run the job again."
                )
        logger.warning("the driver of run %s is gone: taking over", holder["run_id"] if holder else "unknown")
        self._write(exclusive=False)
        return True

    def _shows_life(self, holder: dict[str, Any]) -> bool | None:
        now = self._clock.monotonic()
        if self._watched is None:
            logger.warning(
                "run %s on %s holds the output: waiting up to %.0f s for a sign of life",
                holder["run_id"],
                holder["host"],
                STALE_S,
            )
            self._watched, self._stale_at = holder, now + STALE_S
        if holder != self._watched:
            return True
        return False if now >= self._stale_at else None

    def renew(self) -> None:
        """Writes the lease anew, unless somebody has taken it over."""
        holder = self._holder()
        if holder is None:  # it is gone, or damaged
            with suppress(CommitConflict):
                self._write(exclusive=True)
                return
            holder = self._holder()
        if holder is not None and holder["run_id"] != self._run_id:
            self._taken_by = str(holder["run_id"])
        else:
            self._write(exclusive=False)

    def check(self) -> None:
        """Makes sure that nobody is known to have taken the lease over; asks, if the last renewal is long ago.

        Raises:
            OutputConflict: somebody has; to go on would be to do their work.
        """
        if not self._taken_by and self._clock.monotonic() - self._renewed_at > STALE_S / 2:
            with suppress(StorageError):  # nobody else gets an answer either
                self.renew()
        if self._taken_by:
            raise OutputConflict(
                f"run {self._taken_by} has taken over {self._output.url}: this driver was silent for too long. "
                "What it committed counts; the other run goes on."
            )

    def confirm(self) -> None:
        """Asks the storage whether somebody has: before a step that only the holder may take.

        Raises:
            OutputConflict: as `check`; or the answer took so long that another driver may have come and gone meanwhile.
        """
        begun = self._clock.monotonic()
        if not self._taken_by:
            self.renew()
        self.check()
        if self._clock.monotonic() - begun > STALE_S / 2:
            raise OutputConflict(
                f"{self._output.url} did not answer for so long that another driver may have taken over. What was "
                "committed counts; run the job again to finish it."
            )

    def give_back(self) -> None:
        """Makes room for the next driver."""
        with suppress(ShardmillError):  # a lease that stays goes stale by itself
            holder = self._holder()
            if holder is not None and holder["run_id"] == self._run_id:
                self._output.remove(LEASE)

    def _holder(self) -> dict[str, Any] | None:
        """Who holds the lease; None if nobody does, or it is damaged."""
        with suppress(StorageNotFound, ValueError, RecursionError):
            holder = json.loads(self._output.read_bytes(LEASE))
            if isinstance(holder, dict) and all(isinstance(holder.get(key), kind) for key, kind in _HOLDER.items()):
                return holder
        return None

    def _write(self, *, exclusive: bool) -> None:
        holder = {
            "run_id": self._run_id,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
            "renewed_at": self._clock.time(),
        }
        self._output.write_bytes(LEASE, json.dumps(holder).encode(), exclusive=exclusive)
        self._renewed_at = self._clock.monotonic()


class Lease:
    """The right to drive a job, held from `with` to its end and renewed by a thread of its own."""

    def __init__(self, output: Storage, run_id: str) -> None:
        self._rule = LeaseRule(output, run_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_end, name="lease", daemon=True)
        self.check = self._rule.check
        self.confirm = self._rule.confirm

    def __enter__(self) -> Self:
        """Takes the lease.

        Raises:
            OutputConflict: another driver holds it, and is alive.
        """
        while not self._rule.take():
            time.sleep(RENEW_S / 5)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._rule.give_back()

    def _renew_until_end(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                self._rule.renew()
                self._rule.check()
            except OutputConflict:
                return  # the driver is told at its next check
            except ShardmillError as error:
                logger.warning("the lease could not be renewed: %s", error)  # it is good for some renewals more


def _is_running(holder: dict[str, Any]) -> bool | None:
    """Whether a lease's driver is a process that can be seen from here, and renews it; None if it would not be seen."""
    machine = _machine()
    if machine is None or holder.get("machine") != machine:
        return None
    if _start_time(int(holder["pid"])) != holder.get("started"):  # the number may be another process's by now
        return False
    return bool(time.time() - holder["renewed_at"] < STALE_S)  # one clock: it is on this machine


def _machine() -> str | None:
    """What tells apart the places where process numbers mean the same: this boot of this machine, and in it this
    container. Host names do not: a pod that is started again has the same. None where the system does not tell.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    return None


def _start_time(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None if there is no such process, or it has ended."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    return None
