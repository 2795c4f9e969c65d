"""Workers as Ray actors. The only module that imports ray.

A worker gets units of about a kilobyte and answers with counts: no row passes through the driver or the object store.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

if not os.environ.get("RAY_ADDRESS"):
    # Read when ray is imported. Without it a Ray of our own would listen on all interfaces; so it keeps to loopback,
    # as it does on systems where its clusters are of one machine (whence the name).
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray.exceptions import RayActorError, RayError

from pipeline.errors import SpecError
from pipeline.ledger import Failure
from pipeline.loading import ReplicaRecipe
from pipeline.options import WorkerOptions
from pipeline.units import Unit, UnitReport
from pipeline.workers import Done, Failed, Lost, Message, Ready, describe

logger = logging.getLogger(__name__)

_UNITS_AT_ONCE = 4  # calls that an actor takes side by side: those in hand wait for their turn in the replica


class _Worker:
    """The actor: a replica and nothing else. Outcomes are values, so what Ray raises means that the actor died."""

    def __init__(self, recipe: ReplicaRecipe) -> None:
        self._recipe = recipe
        self._loading = threading.Lock()
        self._replica: Any = None

    def load(self) -> Failure | None:
        """Loads the model; gives the failure if it cannot be."""
        with self._loading:
            # Read when the tokenizer's thread pool is made, so that workers on one machine share its cores.
            os.environ.setdefault("RAYON_NUM_THREADS", str(max(1, round(self._recipe.workers.cpus))))
            try:
                self._replica = self._replica or self._recipe.make()
            except BaseException as error:
                return describe(error)
        return None

    def hand_back(self) -> None:
        """Gives back what is not on the device yet."""
        if self._replica is not None:
            self._replica.hand_back()

    def work(self, unit: Unit) -> UnitReport | Failure:
        """Processes a unit to its commit."""
        try:
            report: UnitReport = self._replica.submit(unit).result()
        except BaseException as error:
            return describe(error)
        return report


class RayPool:
    """Actors on the Ray cluster that this driver is connected to."""

    def __init__(self, recipe: ReplicaRecipe, workers: WorkerOptions) -> None:
        """Connects to the cluster named by RAY_ADDRESS, else starts one on this machine, on loopback only."""
        self._recipe = recipe
        self._options = workers
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, tuple[str, str | None]] = {}  # reference -> worker and unit (None: loading)
        self._made = 0
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            with _termination_kept():
                _connect(workers)

    def start(self, num_workers: int) -> None:
        actor_class = ray.remote(_Worker)
        for _ in range(num_workers):
            name = f"worker-{self._made}"
            self._made += 1
            actor = actor_class.options(
                num_cpus=self._options.cpus,
                num_gpus=self._options.gpus,
                max_restarts=0,  # a lost worker is the ledger's business
                max_concurrency=_UNITS_AT_ONCE,
            ).remote(self._recipe)
            self._actors[name] = actor
            self._calls[actor.load.remote()] = (name, None)

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        self._calls[self._actors[worker].work.remote(unit)] = (worker, unit.name)

    def drop(self, worker: str, unit: str) -> None:
        pass

    def end(self, worker: str) -> None:
        pass

    def poll(self, timeout_s: float) -> list[Message]:
        if not self._calls:
            time.sleep(timeout_s)
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        # more may be there by now: take all at once
        ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0) if ready else (ready, None)
        messages: list[Message] = []
        for reference in ready:
            call = self._calls.pop(reference, None)
            if call is not None:  # otherwise its worker was found dead a moment ago
                messages.append(self._message(reference, *call))
        return messages

    def hand_back(self) -> None:
        for actor in self._actors.values():
            actor.hand_back.remote()

    def stop(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        if self._owns_ray:
            ray.shutdown()

    def _message(self, reference: Any, worker: str, unit: str | None) -> Message:
        try:
            answer = ray.get(reference)
        except RayActorError as error:
            return self._lost(worker, f"its process ended: {_first_line(error)}")
        except RayError as error:
            return self._lost(worker, f"Ray gave it up: {_first_line(error)}")
        if unit is None:
            return Ready(worker=worker) if answer is None else self._lost(worker, answer.message, answer)
        if isinstance(answer, UnitReport):
            return Done(worker=worker, report=answer)
        return Failed(worker=worker, unit=unit, failure=answer)

    def _lost(self, worker: str, reason: str, failure: Failure | None = None) -> Lost:
        """Forgets a worker with all its calls: the ledger gives its units to others at once."""
        actor = self._actors.pop(worker, None)
        if actor is not None:
            ray.kill(actor)
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != worker}
        return Lost(worker=worker, reason=reason, failure=failure)


@contextmanager
def _termination_kept() -> Iterator[None]:
    """Keeps what the process does on SIGTERM while Ray starts, and after.

    Ray puts handlers of its own in place: in Python ones that exit with another code and no record, or in the middle
    of a callback that ignores them, and the signal is lost; at last one in C that calls ours, but then aborts the
    process by an alarm some seconds later.
    """
    given = signal.signal
    handler = signal.getsignal(signal.SIGTERM)
    signal.signal = lambda number, wanted: (  # type: ignore[assignment]
        handler if number == signal.SIGTERM else given(number, wanted)
    )
    try:
        yield
    finally:
        signal.signal = given
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
            signal.alarm(0)


def _connect(workers: WorkerOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; without it Ray warns
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a job on one machine calls nobody
    # "local": without it Ray would look for a cluster that somebody else started on this machine.
    ray.init(address="local", include_dashboard=False, **quiet)
    have = ray.cluster_resources()
    for resource, wanted in (("CPU", workers.cpus), ("GPU", workers.gpus)):
        if wanted * workers.min > have.get(resource, 0):
            ray.shutdown()
            raise SpecError(
                f"workers.min = {workers.min} with {wanted:g} {resource} each need {wanted * workers.min:g} "
                f"{resource}, this machine has {have.get(resource, 0):g}. Ask for less "
                f"(workers.{resource.lower()}s, workers.min), or set RAY_ADDRESS to a cluster that has more."
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
