"""How many tokens go through the model at once: grown while it pays, lowered when memory runs out."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger(__name__)

# (first, most). On two cores figures from 2,048 to 16,384 are alike, and more lets sequences of different lengths fill
# the kernel's groups better; on a GPU it depends on the model and the device.
_BOUNDS = {"cpu": (16384, 16384), "cuda": (16384, 262144)}
_TOKENS_A_THREAD = 2048  # of a CPU: four of the kernel's groups
_LEAST_GAIN = 1.03  # more tokens/s than with half as many


class TokenBudget:
    """The most tokens of one forward pass.

    On devices where more may be faster, each window that fills it is timed, and it doubles until that no longer gains.
    """

    def __init__(self, device_type: str, *, most: int | None = None) -> None:
        """`most` is the user's bound; where nothing is measured, it is the budget."""
        first, bound = _BOUNDS.get(device_type, _BOUNDS["cpu"])
        if device_type == "cpu":
            first = bound = max(bound, _TOKENS_A_THREAD * torch.get_num_threads())
        self._most = most or bound
        self.tokens = min(first, self._most) if first < bound else self._most
        self._is_settled = self.tokens == self._most
        self._is_warm = False
        self._best_rate = 0.0

    def record(self, num_tokens: int, seconds: float, *, token_budget: int) -> None:
        """Notes how long a window took that was cut by `token_budget`.

        The first one is left out, since in it kernels are chosen; so are windows that are smaller than one pass, and
        those that were on their way already when the budget changed.
        """
        if self._is_settled or token_budget != self.tokens or num_tokens < self.tokens:
            return
        if not self._is_warm:
            self._is_warm = True
            return
        rate = num_tokens / seconds
        if rate < self._best_rate * _LEAST_GAIN:
            self.tokens //= 2
            self._settle()
            return
        self._best_rate = rate
        if self.tokens * 2 > self._most:
            self._settle()
        else:
            self.tokens *= 2

    def lower(self, least: int) -> None:
        """Halves it for good, because the device ran out of memory; `least` is what the longest sequence needs."""
        self.tokens = max(self.tokens // 2, least)
        self._is_settled = True
        logger.warning("the device ran out of memory: from now on %d tokens at a time", self.tokens)

    def _settle(self) -> None:
        self._is_settled = True
        logger.info("%d tokens at a time, after measuring", self.tokens)
