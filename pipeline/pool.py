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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

if not os.environ.get("RAY_ADDRESS"):
    # Read when ray is imported. Without it a Ray of our own would listen on all interfaces; so it keeps to loopback,
    # as it does on systems where its clusters are of one machine (whence the name).
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray.exceptions import RayError

from pipeline.actor import Worker
from pipeline.decisions import Failure
from pipeline.errors import DeviceLost, SpecError, WorkerError
from pipeline.loading import ReplicaRecipe
from pipeline.options import WorkerOptions
from pipeline.units import Unit
from pipeline.workers import PROGRESS_S, Counted, Done, Failed, Leaving, Lost, Message, Progressed, Ready

logger = logging.getLogger(__name__)

_UNITS_AT_ONCE = 4  # calls that an actor takes side by side: those in hand wait for their turn in the replica
# Calls that get through whatever the others do: two that only wait, and short ones.
_GROUPS = {"watch": 2, "control": 1}
_ANSWER_S = 30.0  # for an answer that is there already
# In what Ray writes of an actor's death: a first line that says no more than this, then lines that name the actor.
_NO_REASON = "The actor died unexpectedly"
_PARTICULARS = ("class_name:", "actor_id:", "pid:", "name:", "namespace:", "ip:")
_CLUSTER_PATIENCE_S = 30.0  # without a word from the cluster's head; Ray itself ends the process after a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What a worker was asked, and has not answered yet."""

    worker: str
    what: Literal["load", "count", "work", "leaving", "gone", "progress"]
    unit: Unit | None = None


class RayPool:
    """Actors on the Ray cluster that this driver is connected to."""

    def __init__(self, recipe: ReplicaRecipe, workers: WorkerOptions) -> None:
        """Connects to the cluster named by RAY_ADDRESS, else starts one on this machine, on loopback only."""
        self._recipe = recipe
        self._options = workers
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}  # by reference
        self._made = 0
        self._ask_at = 0.0
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            with _termination_kept():
                _connect(workers)
        self._cluster = _ClusterWatch()

    def start(self, num_workers: int) -> None:
        actor_class = ray.remote(concurrency_groups=_GROUPS)(Worker)
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
            self._calls[actor.load.remote()] = _Call(worker=name, what="load")
            self._watch(actor.until_leaving, _Call(worker=name, what="leaving"))

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        actor = self._actors.get(worker)
        if actor is None:
            return  # it is `Lost`, as the driver reads next
        if alone:
            self._calls[actor.count.remote(unit)] = _Call(worker=worker, what="count", unit=unit)
        else:
            self._calls[actor.work.remote(unit)] = _Call(worker=worker, what="work", unit=unit)

    def drop(self, worker: str, unit: str) -> None:
        if actor := self._actors.get(worker):
            actor.drop.options(concurrency_group="control").remote(unit)

    def end(self, worker: str) -> None:
        actor = self._actors.pop(worker, None)
        self._calls = {reference: call for reference, call in self._calls.items() if call.worker != worker}
        if actor is not None:
            ray.kill(actor)

    def poll(self, timeout_s: float) -> list[Message]:
        self._cluster.check()
        self._ask_for_progress()
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
                messages += self._messages(reference, call)
        # What a worker hands back as it leaves is not to be given to it again.
        return sorted(messages, key=lambda message: not isinstance(message, Leaving))

    def hand_back(self) -> None:
        for actor in self._actors.values():
            actor.hand_back.options(concurrency_group="control").remote()

    def stop(self) -> None:
        self._cluster.end()
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        if self._owns_ray:
            ray.shutdown()

    def _watch(self, method: Any, call: _Call) -> None:
        self._calls[method.options(concurrency_group="watch").remote()] = call

    def _ask_for_progress(self) -> None:
        """Asks the workers that have answered the last time, so that one that hangs has one question to answer."""
        if time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + PROGRESS_S
        asked = {call.worker for call in self._calls.values() if call.what == "progress"}
        for worker in self._actors.keys() - asked:
            reference = self._actors[worker].num_steps.options(concurrency_group="control").remote()
            self._calls[reference] = _Call(worker=worker, what="progress")

    def _messages(self, reference: Any, call: _Call) -> list[Message]:
        """What a call's answer says to the driver."""
        worker = call.worker
        try:
            answer = ray.get(reference, timeout=_ANSWER_S)
        except RayError as error:
            return [self._lost(worker, _reason(error))]
        if isinstance(answer, Failure):
            if call.unit is None:
                return [self._lost(worker, answer.message, answer)]
            if answer.kind == DeviceLost.__name__:
                return [self._lost(worker, answer.message)]
            return [Failed(worker=worker, unit=call.unit.name, failure=answer)]
        match call.what:
            case "load":
                return [Ready(worker=worker)]
            case "count":
                assert call.unit is not None
                self.assign(worker, call.unit)
                return [Counted(worker=worker, unit=call.unit.name, num_rows=answer)]
            case "work":
                return [Done(worker=worker, report=answer)]
            case "progress":
                return [Progressed(worker=worker, num_steps=answer)]
            case "leaving":
                self._watch(self._actors[worker].until_gone, _Call(worker=worker, what="gone"))
                return [Leaving(worker=worker)]
            case "gone":
                raise AssertionError("this call is never answered")

    def _lost(self, worker: str, reason: str, failure: Failure | None = None) -> Lost:
        """Forgets a worker with all its calls: the ledger gives its units to others at once."""
        self.end(worker)
        return Lost(worker=worker, reason=reason, failure=failure)


class _ClusterWatch:
    """Asks the cluster for its nodes, in a thread: when its head is gone the question is never answered.

    Ray itself ends the driver's process some time later, without a word of ours; and when the node on which the driver
    is has died, it lets it wait for workers that never come.
    """

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._asked_at: float | None = None  # None once it is answered
        self._node_is_alive = True
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="cluster-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises `WorkerError` if nothing can come of this run any more."""
        if not self._node_is_alive:
            raise WorkerError("the Ray node that this driver is connected to has died. Run the same job again.")
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > _CLUSTER_PATIENCE_S:
            raise WorkerError(
                f"the head of the Ray cluster has not answered for {_CLUSTER_PATIENCE_S:.0f} s. "
                "When there is a cluster again, run the same job again: what is committed stays."
            )

    def end(self) -> None:
        """Asks no more: a question after Ray's end would start it anew."""
        self._ended.set()
        self._thread.join(timeout=1.0)  # unless it waits for an answer that will not come

    def _ask(self) -> None:
        while not self._ended.wait(PROGRESS_S):
            self._asked_at = self._asked_at or time.monotonic()
            with suppress(Exception):  # no answer, whatever Ray says
                alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
                self._node_is_alive = self._node in alive
                self._asked_at = None


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
        # Tries, of some 40 s each; by itself Ray makes 20, so a driver whose cluster dies now would sit for 14 minutes.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "2")
        try:
            ray.init(**quiet)
        except ConnectionError:
            raise WorkerError(
                f"no Ray cluster answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']}. Start it, or correct the address; "
                "then run the same job again."
            ) from None
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


def _reason(error: BaseException) -> str:
    """Why Ray gave a worker up, in one line: of the page that it writes, without the actor's particulars and advice."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    told = [line.strip() for line in others if not line.strip().startswith(_PARTICULARS)]
    why = "; ".join(told) if told and first.startswith(_NO_REASON) else first
    return why.partition(" Some common causes")[0].strip()
