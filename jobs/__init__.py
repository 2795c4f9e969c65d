"""Jobs: what can be done to a corpus, and how it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.api import annotate, retry, run
    from jobs.spec import JobSpec

__all__ = ["JobSpec", "annotate", "retry", "run"]


def __getattr__(name: str) -> Any:
    # On demand: `shardmill --help` and `shardmill status` answer without loading torch.
    if name == "JobSpec":
        from jobs.spec import JobSpec

        return JobSpec
    if name in __all__:
        from jobs import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
