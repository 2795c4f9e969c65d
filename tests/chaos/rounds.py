"""One round: a job, faults at some moments, as many runs as it takes; then its output next to an undisturbed one."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.verify import verify_output
from tests.chaos.arena import NUM_ROWS, TASKS, Arena
from tests.support.finished import assert_alike, rows_of

PATIENCE_S = 300.0  # for a round
MOST_RUNS = 15
PROXY_RATE = 0.03  # of all requests have a fault of their own
NUM_UNITS = 42  # about
# Fault -> how often, against the others.
FAULTS = {
    "SIGKILL worker": 4,
    "SIGTERM worker": 3,
    "SIGSTOP worker": 3,
    "SIGKILL raylet": 3,
    "SIGKILL driver": 4,
    "SIGTERM driver": 2,
    "storage away": 3,
    "SIGKILL storage": 3,
    "SIGKILL head": 1,
}


@dataclass(slots=True, kw_only=True)
class Round:
    """How a round went."""

    seed: int
    task: str
    faults: list[str] = field(default_factory=list)  # those that had their moment
    num_proxy_faults: int = 0
    exit_codes: list[int] = field(default_factory=list)  # of the runs
    num_rows: int = 0
    problem: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problem


def play(arena: Arena, seed: int, *, kinds: tuple[str, ...] = tuple(TASKS)) -> Round:
    """Plays a round. What happens follows from the seed; at which step of the job it does, from the machine too."""
    chance = random.Random(seed)
    played = Round(seed=seed, task=chance.choice(kinds))
    expected = arena.expected(played.task)
    arena.prepare(played.task)
    arena.log.write_bytes(b"")
    begun = time.monotonic()
    arena.proxy.seed, arena.proxy.rate = seed, PROXY_RATE
    before = Counter(arena.proxy.counts)
    try:
        played.problem = _run_to_the_end(arena, played, chance)
    finally:
        arena.proxy.rate = 0.0
        arena.thaw(all_of_them=True)
    asked = Counter(arena.proxy.counts) - before
    played.num_proxy_faults = asked.total() - asked["requests"]
    if not played.problem:
        _compare(arena, played, expected)
    played.seconds = time.monotonic() - begun
    return played


def _run_to_the_end(arena: Arena, played: Round, chance: random.Random) -> str:
    """Runs the job until it is done; the problem, if it does not get there."""
    # Each fault when so many units are committed, and a moment later.
    plan = sorted(
        (chance.randrange(-5, NUM_UNITS), chance.uniform(0, 0.3), fault)
        for fault in chance.choices(list(FAULTS), list(FAULTS.values()), k=chance.randint(2, 6))
    )
    deadline = time.monotonic() + PATIENCE_S
    arena.start_driver()
    started = time.monotonic()
    while time.monotonic() < deadline:
        code = arena.exit_code()
        if code is not None:
            played.exit_codes.append(code)
            if code == 0:
                return ""
            if code == 3:
                return "something is in quarantine"
            if len(played.exit_codes) == MOST_RUNS:
                return f"not done after {MOST_RUNS} runs"
            arena.start_driver()
            started = time.monotonic()
        arena.thaw()
        if plan and _is_due(arena, plan[0][0], started):
            _, moment, fault = plan.pop(0)
            time.sleep(moment)
            if _strike(arena, fault, chance):
                played.faults.append(fault)
        time.sleep(0.05)
    return f"not done after {PATIENCE_S:.0f} s"


def _is_due(arena: Arena, threshold: int, started: float) -> bool:
    if threshold < 0:  # while it starts
        return time.monotonic() - started > -threshold
    return arena.num_committed() > threshold


def _strike(arena: Arena, fault: str, chance: random.Random) -> bool:
    """Does it; whether there was anything to do it to."""
    match fault:
        case "SIGKILL worker":
            return arena.signal_worker(signal.SIGKILL, chance)
        case "SIGTERM worker":
            return arena.signal_worker(signal.SIGTERM, chance)
        case "SIGSTOP worker":
            return arena.signal_worker(signal.SIGSTOP, chance, thaw_s=chance.uniform(2, 30))
        case "SIGKILL raylet":
            arena.kill_node(chance)
        case "SIGKILL driver":
            arena.signal_driver(signal.SIGKILL)
        case "SIGTERM driver":
            arena.signal_driver(signal.SIGTERM)
        case "storage away":
            with arena.proxy.down():
                time.sleep(chance.uniform(0.5, 10))
        case "SIGKILL storage":
            arena.kill_server(chance.uniform(0, 3))
        case "SIGKILL head":
            arena.kill_head()
    return True


def _compare(arena: Arena, played: Round, expected: list[dict[str, Any]]) -> None:
    """Row by row with the undisturbed run, and `verify`."""
    found = rows_of(arena.output)
    played.num_rows = found.num_rows
    ids = Counter(found["id"].to_pylist())
    lost = NUM_ROWS - len(ids)
    doubled = ids.total() - len(ids)
    if lost or doubled:
        played.problem = f"{lost} rows lost, {doubled} rows doubled"
        return
    try:
        assert_alike(found.to_pylist(), expected)
    except AssertionError as difference:
        played.problem = f"other values: {str(difference)[:200]}"
        return
    verified = verify_output(arena.output, input_storage=arena.input_options)
    if not verified.passed:
        failed = {check.name: check.problems[:3] for check in verified.checks if check.problems}
        played.problem = f"verify: {failed}"
