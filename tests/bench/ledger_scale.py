"""What a million units cost the driver: memory, decisions a second, and what planning a listing of as many files takes.

python tests/bench/ledger_scale.py [--units 1000000] [--workers 256]
"""

from __future__ import annotations

import argparse
import gc
import heapq
import tempfile
import time
from collections.abc import Iterable, Iterator

from pipeline.changes import changes
from pipeline.decisions import Assign, Decision
from pipeline.ledger import Ledger
from pipeline.names import NameSet
from pipeline.planner import _unit
from pipeline.plans import num_plans, write_plan
from pipeline.resume import Progress
from pipeline.spool import spooled
from pipeline.storage import Storage
from pipeline.units import InputFile, Piece, Unit


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def input_files(number: int) -> Iterator[InputFile]:
    for index in range(number):
        yield InputFile(
            url=f"s3://corpus/2026/shard-{index:08d}.jsonl.gz",
            format="jsonl",
            compression="gzip",
            size_bytes=100_000_000 + index,
            fingerprint=f"{index:032x}",
        )


def units_of(files: Iterable[InputFile]) -> Iterator[Unit]:
    for index, file in enumerate(files):
        yield _unit([Piece(file=file)], file.size_bytes, ["s3://corpus/"], 0, index, "job")


def through_the_ledger(num_units: int, num_workers: int) -> tuple[float, int, int]:
    """Seconds, decisions and the growth of memory; workers take turns, and one unit in a hundred loses its worker."""
    before = most = resident_bytes()
    begun = time.perf_counter()
    ledger = Ledger(units_of(input_files(num_units)))
    busy: list[tuple[float, str, str]] = []
    num_decisions = num_born = num_steps = 0

    def obey(decisions: list[Decision], now: float) -> None:
        nonlocal num_decisions
        num_decisions += len(decisions)
        for decision in decisions:
            if isinstance(decision, Assign):
                heapq.heappush(busy, (now + 60.0, decision.worker, decision.unit.name))

    while not ledger.done:
        now = busy[0][0] if busy else 0.0
        if ledger.num_workers < num_workers and not ledger._exhausted:
            num_born += 1
            obey(ledger.worker_ready(f"worker-{num_born}", now), now)
            continue
        if not busy:  # what is left waits for its time
            obey(ledger.tick(now + 1e9), now)
            continue
        now, worker, unit = heapq.heappop(busy)
        num_steps += 1
        if num_steps % 1000 == 0:
            obey(ledger.worker_lost(worker, "gone", now), now)
        else:
            obey(ledger.unit_done(worker, unit, now), now)
        if num_steps % 100_000 == 0:
            most = max(most, resident_bytes())
    return time.perf_counter() - begun, num_decisions, most - before


def through_planning(num_files: int, output: Storage) -> tuple[float, int, int]:
    """Seconds, the most growth of memory that was seen, and the units of the plan; the files are not read."""
    before = most = resident_bytes()
    begun = time.perf_counter()

    def watched(units: Iterator[Unit]) -> Iterator[Unit]:
        nonlocal most
        for index, unit in enumerate(units):
            if index % 10_000 == 0:
                most = max(most, resident_bytes())
            yield unit

    with spooled(input_files(num_files)) as files:
        most = max(most, resident_bytes())
        changed = changes(output, Progress.of(output), files)
        most = max(most, resident_bytes())
        num_units = write_plan(output, num_plans(output), watched(units_of(changed.to_plan)))
        most = max(most, resident_bytes())
    return time.perf_counter() - begun, most - before, num_units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=256)
    options = parser.parse_args()
    seconds, num_decisions, grown = through_the_ledger(options.units, options.workers)
    print(f"ledger: {options.units} units, {options.workers} workers: {num_decisions / seconds:,.0f} decisions/s, "
          f"{grown / options.units:.1f} bytes a unit ({grown / 1e6:.1f} MB)")  # fmt: skip

    before = resident_bytes()
    names = NameSet(f"00000-{index:06d}-{index * 2654435761 % 2**32:08x}" for index in range(options.units))
    print(f"what is committed: {(resident_bytes() - before) / len(names):.1f} bytes a unit")

    with tempfile.TemporaryDirectory() as folder:
        output = Storage.open(folder)
        for planned in ("nothing", "all of it"):
            seconds, grown, num_units = through_planning(options.units, output)
            print(f"listing of {options.units} files, {planned} planned before: {num_units} units planned, "
                  f"{grown / options.units:.0f} bytes a file ({grown / 1e6:.0f} MB) in {seconds:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
