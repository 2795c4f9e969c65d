"""What storage drivers raise, in our words; and how often what may pass is tried again."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from typing import Any

import tenacity

from pipeline.errors import CommitConflict, ShardmillError, StorageError, StorageNotFound, StorageUnavailable

logger = logging.getLogger(__name__)

ATTEMPTS = 4
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0

# Drivers bring exceptions of many libraries, none of which is worth importing for its name alone.
_PASSING_CLASSES = frozenset(
    {"HTTPClientError", "ClientConnectionError", "ClientPayloadError", "TransportError", "ConnectionError", "Timeout"}
)
_PASSING_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE}
)


def retrying() -> tenacity.Retrying:
    """Tries again while storage is unavailable: a few times, ever later, each with a line in the log."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StorageUnavailable),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        before_sleep=_log_retry,
        reraise=True,
    )


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_s = state.next_action.sleep if state.next_action else 0.0
    logger.warning("%s Attempt %d of %d, again in %.1f s.", error, state.attempt_number, ATTEMPTS, wait_s)


def translated(error: Exception, url: str, detail: str) -> ShardmillError:
    """Our error for one of a driver.

    Args:
        url: the place concerned, fit to be shown.
        detail: the driver's own words, without secrets.
    """
    code, status, names = _code(error), _status(error), {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, ShardmillError):
        return error
    if isinstance(error, FileExistsError) or status == 412:
        return CommitConflict(f"{url} is there already.")
    if code == "NoSuchBucket":
        return StorageNotFound(
            f"{url}: the bucket does not exist; check its name and the endpoint.", container_missing=True
        )
    if names & {"RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError"}:
        return StorageNotFound(
            f"{url}: no such repository or revision on the Hub, or it is private or gated and needs a `token` in the "
            "storage options (or HF_TOKEN).",
            container_missing=True,
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return StorageNotFound(f"{url} does not exist.")
    if isinstance(error, PermissionError) or status in (401, 403):
        return StorageError(
            f"{url}: access refused ({detail}). Check the credentials in the storage options or the environment; "
            "a public bucket is read with `anon: true`."
        )
    if "NoCredentialsError" in names:
        return StorageError(
            f"{url}: no credentials. Give `key` and `secret` in the storage options or the usual environment "
            "variables; a public bucket is read with `anon: true`."
        )
    if _may_pass(error, status, names):
        return StorageUnavailable(f"{url}: not available now ({detail}).")
    return StorageError(f"{url}: {detail}")


def _may_pass(error: Exception, status: int | None, names: set[str]) -> bool:
    if status is not None and (status in (408, 409, 429) or status >= 500):
        return status != 501
    if isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno in _PASSING_ERRNOS):
        return True
    return not _PASSING_CLASSES.isdisjoint(names)


def _response(error: BaseException) -> Any:
    """The response of the store, which drivers leave on the error or on its cause."""
    while getattr(error, "response", None) is None and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "response", None)


def _code(error: Exception) -> str | None:
    """The error code in S3's words."""
    response = _response(error)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _status(error: Exception) -> int | None:
    """The HTTP status."""
    response = _response(error)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None) or getattr(error, "status", None) or getattr(error, "code", None)
    return found if isinstance(found, int) else None


@contextlib.contextmanager
def local_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageNotFound(f"{path} does not exist.") from error
    except PermissionError as error:
        raise StorageError(f"{path}: the operating system refuses access; check its owner and mode.") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or type(error).__name__}.") from error
