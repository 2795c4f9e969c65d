"""Removing what killed writers have left in an output folder, where no reader looks."""

from __future__ import annotations

import logging
import time

from pipeline.errors import StorageError
from pipeline.storage import Storage

logger = logging.getLogger(__name__)

LEFTOVER_AGE_S = 3600.0  # no write of one file takes so long


def remove_leftovers(output: Storage, *, older_than_s: float = LEFTOVER_AGE_S) -> int:
    """Removes staged files and unfinished uploads, and gives how many it were.

    For a run that has the lease. Safe while others write here, on whatever host: what is younger stays. That a store
    refuses, which may not let us list uploads, is only a line in the log.
    """
    num_removed = 0
    try:
        for leftover in output.leftovers():
            if time.time() - leftover.begun_at > older_than_s:
                output.remove_leftover(leftover)
                logger.info("removed what a killed writer left of %s", output.url_of(leftover.path))
                num_removed += 1
    except StorageError as error:
        logger.warning("what killed writers may have left is not removed: %s", error)
    return num_removed
