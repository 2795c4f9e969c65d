"""Nodes of a Ray cluster on this machine, and the processes of our workers in it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NODE = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
# A node that is gone is noticed after seconds, not after half a minute.
SYSTEM = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 4,
}


def worker_pids() -> list[int]:
    """The processes of our Ray actors, of clusters that this process has started."""
    return descendants(os.getpid(), "ray::Worker")


def descendants(ancestor: int, program: str) -> list[int]:
    """The processes that a process has started, or that those have, whose program is called so."""
    parents: dict[int, int] = {}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone by now
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            called = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
            if called.rpartition("/")[2].startswith(program):
                found.append(pid)
    return [pid for pid in found if ancestor in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    found = []
    while pid in parents:
        pid = parents[pid]
        found.append(pid)
    return found
