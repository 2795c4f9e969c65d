"""The time, as a driver asks for it: a simulation gives another."""

from __future__ import annotations

import time


class Clock:
    """This machine's clocks."""

    def monotonic(self) -> float:
        """Seconds since whenever; never goes back."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()
