"""Cases in child processes, many in each, under a limit of memory and of time: a crash costs the case, not the rest."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa

from tests.fuzz.cases import kind_of, run_case, write_case

MEMORY_BYTES = 3 << 29  # more than before the case that reading may hold: see infra/benchmarks/reliability.md
ADDRESS_SPACE_BYTES = 24 << 30  # a claim beyond this fails at once, as it would on most machines
CASE_S = 120.0  # no case takes a tenth of it; a loop that does not end takes more
CASES_PER_CHILD = 500

CRASH, HANG, SWOLLEN = "crash", "hang", "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a case ended, and what it took."""

    seed: int
    end: str  # rows, quarantine, refused; or what was found
    message: str
    seconds: float
    memory_bytes: int  # most that was held while reading, beyond what was held before
    is_finding: bool

    @property
    def kind(self) -> str:
        return kind_of(self.seed)


def run_cases(seeds: Iterable[int], *, memory_bytes: int = MEMORY_BYTES, case_s: float = CASE_S) -> Iterator[Outcome]:
    """Runs cases one after another, in order."""
    remaining = list(seeds)
    while remaining:
        now, remaining = remaining[:CASES_PER_CHILD], remaining[CASES_PER_CHILD:]
        num_done = 0
        for outcome in _in_a_child(now, memory_bytes, case_s):
            num_done += 1
            yield outcome
        remaining = now[num_done:] + remaining


def _in_a_child(seeds: list[int], memory_bytes: int, case_s: float) -> Iterator[Outcome]:
    """The outcomes of the cases up to the last, or up to one that ends the child."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="shardmill-fuzz-") as folder:
        child = context.Process(target=_work, args=(theirs, seeds, folder, memory_bytes), daemon=True)
        child.start()
        theirs.close()
        try:
            for seed in seeds:
                outcome = _watched(child.pid or 0, ours, seed, Path(folder), memory_bytes, case_s)
                yield outcome
                if outcome.end in (CRASH, HANG) or (outcome.end == SWOLLEN and outcome.message):
                    return
        finally:
            child.kill()
            child.join()


def _watched(pid: int, pipe: Connection, seed: int, folder: Path, memory_bytes: int, case_s: float) -> Outcome:
    begun = time.monotonic()
    held = 0
    allowed: int | None = None  # not known while the files are made

    def ended(end: str, message: str) -> Outcome:
        return Outcome(seed=seed, end=end, message=message, seconds=time.monotonic() - begun, memory_bytes=held,
                       is_finding=True)  # fmt: skip

    while time.monotonic() - begun < case_s:
        try:
            if pipe.poll(0.02):
                told = pipe.recv()
                if isinstance(told, Outcome):
                    return told
                begun, before = time.monotonic(), told
                allowed = before + 3 * memory_bytes  # the child itself tells of less; this is for its end to be ours
            elif allowed is not None and (held := _status(pid, "VmRSS")) > allowed:
                return ended(SWOLLEN, "stopped while it grew")
        except EOFError:
            place = folder / "trace"
            trace = place.read_text(errors="replace") if place.exists() else ""
            return ended(CRASH, trace[-3000:])
    return ended(HANG, f"no end after {case_s:.0f} s")


def _work(pipe: Connection, seeds: list[int], folder: str, memory_bytes: int) -> None:
    with open(Path(folder) / "trace", "w", encoding="utf-8") as trace, contextlib.suppress(BrokenPipeError):
        faulthandler.enable(trace)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what libraries say of damage is no news
        logging.disable()
        os.fsync = lambda _: None  # no power is cut here, and disks take their time
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        tempfile.tempdir = folder
        gc.freeze()  # what is imported stays: to look through it after every case would take longer than the case
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                try:
                    write_case(seed, Path(place))
                except Exception:  # a fault of the fuzzer, but not one to hide
                    pipe.send(Outcome(seed=seed, end="not made", message=traceback.format_exc(), seconds=0.0,
                                      memory_bytes=0, is_finding=True))  # fmt: skip
                    continue
                before = _forget_peak()
                pipe.send(before)
                pipe.send(_outcome(seed, Path(place), before, memory_bytes))


def _outcome(seed: int, folder: Path, before: int, memory_bytes: int) -> Outcome:
    begun = time.monotonic()
    try:
        end = run_case(seed, folder)
        kind, message, is_finding = end.kind, end.message, False
    except Exception as error:
        kind, message, is_finding = type(error).__name__, traceback.format_exc(limit=-6)[-3000:], True
    grown = _status(os.getpid(), "VmHWM") - before
    if grown > memory_bytes and not is_finding:
        kind, message, is_finding = SWOLLEN, "", True
    return Outcome(seed=seed, end=kind, message=message, seconds=time.monotonic() - begun, memory_bytes=grown,
                   is_finding=is_finding)  # fmt: skip


def _forget_peak() -> int:
    """Gives back what making the files has left, and starts to measure anew; bytes held now."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status(os.getpid(), "VmRSS")


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0
