"""Plays many seeds: `python -m tests.simulation --seeds 10000`; one again, with its trace: `--seed 17 --trace`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import Violation, simulate

CHUNK = 100

Finding = tuple[int, str, Sequence[str]]  # seed, what did not hold, trace


def play(seeds: range) -> tuple[int, list[Finding]]:
    """How many things happened in them, and those in which something did not hold."""
    logging.disable(logging.CRITICAL)
    num_events = 0
    failures = []
    for seed in seeds:
        try:
            num_events += simulate(seed)._num_events
        except Exception as error:  # whatever breaks in the product is a finding too
            told = str(error) if isinstance(error, Violation) else f"seed {seed}: {type(error).__name__}: {error}"
            failures.append((seed, told, getattr(error, "trace", ())))
    return num_events, failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell all that happens")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.seed is not None:
        return play_one(options.seed, trace=options.trace)
    begun = time.perf_counter()
    chunks = [
        range(first, min(first + CHUNK, options.first + options.seeds))
        for first in range(options.first, options.first + options.seeds, CHUNK)
    ]
    num_events = num_failures = 0
    for found, failures in results(chunks, options.processes):
        num_events += found
        for seed, told, trace in failures:
            num_failures += 1
            print(told)
            if num_failures == 1:
                print(*trace[-60:], sep="\n")
            print(f"  again: python -m tests.simulation --seed {seed} --trace")
    seconds = time.perf_counter() - begun
    print(f"{options.seeds} seeds, {num_events} events, {num_failures} failures in {seconds:.0f} s")
    return 1 if num_failures else 0


def results(chunks: list[range], processes: int) -> Iterator[tuple[int, list[Finding]]]:
    if processes == 1:
        yield from map(play, chunks)
    else:
        with ProcessPoolExecutor(processes) as pool:
            yield from pool.map(play, chunks)


def play_one(seed: int, *, trace: bool) -> int:
    logging.disable(logging.CRITICAL)
    try:
        world = simulate(seed)
    except Violation as violation:
        print(*violation.trace if trace else (), str(violation), sep="\n")
        return 1
    print(*world.trace if trace else (), f"seed {seed}: all holds", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
