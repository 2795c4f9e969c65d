"""A job that loses workers, nodes, drivers and its storage, over and over: `python -m tests.chaos --rounds 50`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

# Read when ray is imported: clusters of several nodes on one machine, and calls to nobody.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from tests.chaos.arena import Arena
from tests.chaos.rounds import Round, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; the next ones count on")
    parser.add_argument("--logs", type=Path, help="keep what the drivers say in this folder, a file a round")
    asked = parser.parse_args()
    played: list[Round] = []
    print("| seed | task | faults | of the proxy | exit codes of the runs | rows | result | s |")
    print("|---:|---|---|---:|---|---:|---|---:|")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, Arena(Path(folder)) as arena:
        for seed in range(asked.seed, asked.seed + asked.rounds):
            played.append(play(arena, seed))
            print_round(played[-1])
            if asked.logs:
                asked.logs.mkdir(parents=True, exist_ok=True)
                (asked.logs / f"{seed}.log").write_bytes(arena.log.read_bytes())
    print_sums(played)
    return int(not all(one.passed for one in played))


def print_round(one: Round) -> None:
    faults = ", ".join(one.faults) or "none had its moment"
    codes = " ".join(map(str, one.exit_codes))
    result = "equal" if one.passed else one.problem
    print(
        f"| {one.seed} | {one.task} | {faults} | {one.num_proxy_faults} | {codes} | {one.num_rows} | {result} "
        f"| {one.seconds:.0f} |",
        flush=True,
    )


def print_sums(played: list[Round]) -> None:
    faults = Counter(fault for one in played for fault in one.faults)
    told = ", ".join(f"{number} × {fault}" for fault, number in faults.most_common())
    print(f"\n{len(played)} rounds, {sum(one.passed for one in played)} equal to the undisturbed run")
    print(f"{faults.total()} faults: {told}; {sum(one.num_proxy_faults for one in played)} of the proxy")
    print(f"{sum(len(one.exit_codes) for one in played)} runs, {sum(one.num_rows for one in played)} rows compared")


if __name__ == "__main__":
    sys.exit(main())
