"""What runs in a worker's process: a replica, and the way in which it leaves. Ray makes an actor of it.

Outcomes are values: what Ray raises means that the process is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from pipeline.decisions import Failure
from pipeline.loading import ReplicaRecipe
from pipeline.replica import Replica
from pipeline.units import Unit, UnitReport
from pipeline.workers import describe

logger = logging.getLogger(__name__)

GRACE_S = 25.0  # to finish what is on the device after SIGTERM; those who send it wait half a minute, as a rule
NOTICE_S = 0.5  # for an answer to reach the driver


class Worker:
    """A replica in a process of its own. Its methods are called by several threads, the constructor by the main one."""

    def __init__(self, recipe: ReplicaRecipe) -> None:
        self._recipe = recipe
        self._loading = threading.Lock()
        self._replica: Replica | None = None
        self._leaving = threading.Event()
        # In place of Ray's own handler, which ends the process with all that it has in hand.
        signal.signal(signal.SIGTERM, self._on_termination)

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

    def count(self, unit: Unit) -> int | Failure:
        """Counts a unit's rows, without the model."""
        assert self._replica is not None
        try:
            return self._replica.count(unit)
        except BaseException as error:
            return describe(error)

    def work(self, unit: Unit) -> UnitReport | Failure:
        """Processes a unit to its commit."""
        assert self._replica is not None
        try:
            return self._replica.submit(unit).result()
        except BaseException as error:
            return describe(error)

    def drop(self, unit: str) -> None:
        """Leaves a unit."""
        if self._replica is not None:
            self._replica.drop(unit)

    def hand_back(self) -> None:
        """Gives back what is not on the device yet."""
        if self._replica is not None:
            self._replica.hand_back()

    def num_steps(self) -> int:
        """How far the replica has come, over all units."""
        return 0 if self._replica is None else self._replica.num_steps

    def until_leaving(self) -> None:
        """Returns when the process is asked to end."""
        self._leaving.wait()

    def until_gone(self) -> None:
        """Never returns: that the process is gone shows by Ray's error."""
        threading.Event().wait()

    def _on_termination(self, number: int, frame: Any) -> None:
        if not self._leaving.is_set():
            self._leaving.set()
            threading.Thread(target=self._leave, name="leave").start()

    def _leave(self) -> None:
        logger.warning("the worker was asked to end: it finishes what is on the device, and hands back the rest")
        time.sleep(NOTICE_S)  # first the driver hears of it, or it would give the units that it gets back to us again
        if self._replica is not None:
            self._replica.leave(GRACE_S)
        time.sleep(NOTICE_S)
        os._exit(0)
