"""What the driver sees of its workers: who is ready, what was done, what failed, who is gone."""

from __future__ import annotations

import logging
import queue
import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from models.errors import ModelError
from pipeline.decisions import Failure
from pipeline.errors import DeviceLost, ShardmillError
from pipeline.loading import ReplicaRecipe
from pipeline.replica import Replica
from pipeline.units import Unit, UnitReport

logger = logging.getLogger(__name__)

PROGRESS_S = 5.0  # between signs of life of a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    worker: str
    report: UnitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    worker: str
    unit: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Said of a unit that was given alone, before the model sees it: how many rows its pieces give."""

    worker: str
    unit: str
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A sign of life: the steps (windows read, batches computed ...) that a worker has done so far, over all units.

    Also said by one that is loading its model: none.
    """

    worker: str
    num_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The worker's machine is about to be taken away: it gives back what is not on its device, and takes no more."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    worker: str
    reason: str
    failure: Failure | None = None  # set when the worker could not even start


Message = Ready | Counted | Progressed | Leaving | Done | Failed | Lost


class Pool(Protocol):
    """A set of workers. Used by one thread."""

    def start(self, num_workers: int) -> None:
        """Starts workers; each says `Ready` when its model is loaded."""
        ...

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        """Gives a unit to a worker; the worker answers with `Done` or `Failed`, or is `Lost`.

        Args:
            alone: the unit is under suspicion, and the worker has no other: it says `Counted` before it begins.
        """
        ...

    def drop(self, worker: str, unit: str) -> None:
        """Has a worker leave a unit that is no longer wanted; what it still says of it may be ignored."""
        ...

    def end(self, worker: str) -> None:
        """Ends one worker at once, without another word of it: it hangs, or nothing is left for it to do."""
        ...

    def poll(self, timeout_s: float) -> list[Message]:
        """Waits until there is news, at most `timeout_s`."""
        ...

    def hand_back(self) -> None:
        """Has every worker give back, as `Failed`, the units that are not on its device yet."""
        ...

    def stop(self) -> None:
        """Ends the workers; what they have in hand is dropped."""
        ...


class LocalPool:
    """One replica in the driver's own process: for one device without a cluster, and for tests."""

    def __init__(self, recipe: ReplicaRecipe) -> None:
        self._recipe = recipe
        self._replica: Replica | None = None
        self._messages: queue.Queue[Message] = queue.Queue()
        self._told_at = 0.0

    def start(self, num_workers: int) -> None:
        self._replica = self._recipe.make()
        self._messages.put(Ready(worker="local"))

    def assign(self, worker: str, unit: Unit, *, alone: bool = False) -> None:
        if self._replica is None:
            return  # it was ended
        if alone:
            try:
                self._messages.put(Counted(worker=worker, unit=unit.name, num_rows=self._replica.count(unit)))
            except Exception as error:
                self._messages.put(Failed(worker=worker, unit=unit.name, failure=describe(error)))
                return
        self._replica.submit(unit).add_done_callback(lambda future: self._report(unit, future))

    def drop(self, worker: str, unit: str) -> None:
        if self._replica is not None:
            self._replica.drop(unit)

    def end(self, worker: str) -> None:
        self.stop()
        self._replica = None
        self._messages = queue.Queue()

    def poll(self, timeout_s: float) -> list[Message]:
        if self._replica is not None and time.monotonic() - self._told_at > PROGRESS_S:
            self._told_at = time.monotonic()
            return [Progressed(worker="local", num_steps=self._replica.num_steps)]
        try:
            return [self._messages.get(timeout=timeout_s)]
        except queue.Empty:
            return []

    def hand_back(self) -> None:
        if self._replica is not None:
            self._replica.hand_back()

    def stop(self) -> None:
        if self._replica is not None:
            self._replica.close()

    def _report(self, unit: Unit, future: Future[UnitReport]) -> None:
        error = future.exception()
        if error is None:
            self._messages.put(Done(worker="local", report=future.result()))
            return
        failure = describe(error)
        if isinstance(error, DeviceLost):  # and with it the driver's process
            self._messages.put(Lost(worker="local", reason=failure.message, failure=replace(failure, reach="run")))
        else:
            self._messages.put(Failed(worker="local", unit=unit.name, failure=failure))


def describe(error: BaseException) -> Failure:
    """An error as a plain value that crosses processes.

    The message of an error that is not ours may quote the corpus (a conversion error names the value), so only errors
    of the system and of torch keep theirs; of others class and place are told, and the debug log has all places.
    """
    kind = type(error).__name__
    if isinstance(error, ShardmillError):
        return Failure(kind=kind, message=str(error), retry=error.retry, reach=error.reach)
    if isinstance(error, ModelError):
        return Failure(kind=kind, message=str(error), retry=False, reach="run")
    logger.debug("a unit failed: %s\n%s", kind, "".join(traceback.format_tb(error.__traceback__)))
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    told = f": {error}" if isinstance(error, (OSError, RuntimeError, MemoryError)) else ""
    return Failure(kind=kind, message=f"{kind}{place}{told}")
