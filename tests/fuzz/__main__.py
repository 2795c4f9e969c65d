"""Damaged input by the thousand: `python -m tests.fuzz --cases 5000`; and one case again: `--seed 17`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from itertools import count, islice

from tests.fuzz.cases import KINDS, QUARANTINE, REFUSED, ROWS, kind_of
from tests.fuzz.runner import MEMORY_BYTES, Outcome, run_cases


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (default %(default)s)")
    parser.add_argument("--seed", type=int, help="run this one alone, and say how it ended")
    parser.add_argument("--format", choices=KINDS, action="append", help="only these kinds; may be repeated")
    asked = parser.parse_args()
    if asked.seed is not None:
        (outcome,) = run_cases([asked.seed])
        print(f"{outcome.kind}: {outcome.end}, {outcome.seconds:.2f} s, {outcome.memory_bytes >> 20} MiB")
        print(outcome.message)
        return int(outcome.is_finding)
    wanted = asked.format or KINDS
    seeds = (seed for seed in count(asked.first) if kind_of(seed) in wanted)
    outcomes = []
    for outcome in run_cases(islice(seeds, asked.cases)):
        outcomes.append(outcome)
        if outcome.is_finding:
            last = outcome.message.strip().rpartition("\n")[2][:160]
            print(f"seed {outcome.seed} ({outcome.kind}): {outcome.end}, {outcome.memory_bytes >> 20} MiB {last}")
            sys.stdout.flush()
    print_table(outcomes)
    return int(any(outcome.is_finding for outcome in outcomes))


def print_table(outcomes: list[Outcome]) -> None:
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    print(f"| {'damaged':14} | cases | {ROWS} | {QUARANTINE} | {REFUSED} | findings | most memory, MiB | longest, s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, of_kind in (*((kind, by_kind[kind]) for kind in KINDS if kind in by_kind), ("all", outcomes)):
        ends = Counter(outcome.end for outcome in of_kind if not outcome.is_finding)
        findings = sum(outcome.is_finding for outcome in of_kind)
        memory = max((outcome.memory_bytes for outcome in of_kind), default=0) >> 20
        longest = max((outcome.seconds for outcome in of_kind), default=0.0)
        print(
            f"| {name:14} | {len(of_kind)} | {ends[ROWS]} | {ends[QUARANTINE]} | {ends[REFUSED]} | {findings} "
            f"| {memory} | {longest:.1f} |"
        )
    print(f"\nbound of memory: {MEMORY_BYTES >> 20} MiB beyond what the process held before the case")


if __name__ == "__main__":
    sys.exit(main())
