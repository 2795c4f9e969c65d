"""What storage drivers raise, in our words; and how often what may pass is tried again."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import tenacity

from pipeline.errors import (
    CommitConflict,
    ShardmillError,
    StorageError,
    StorageNotFound,
    StorageUnavailable,
    StorageUnreachable,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 12
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
PATIENCE_S = 120.0  # after this no attempt begins: of requests that time out there are fewer than `ATTEMPTS`
UNREACHABLE_S = 6.0  # the same for an endpoint that has never answered: its URL is likely wrong

# Drivers bring exceptions of many libraries, none of which is worth importing for its name alone.
_UNREACHABLE_CLASSES = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "ClientConnectorError", "gaierror",
     "ConnectionRefusedError"}
)  # fmt: skip
_PASSING_CLASSES = frozenset(
    {"HTTPClientError", "ClientConnectionError", "ClientPayloadError", "TransportError", "ConnectionError", "Timeout",
     "IncompleteReadError", "IncompleteRead", "ResponseParserError", "CredentialRetrievalError"}
)  # fmt: skip
_PASSING_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE}
)
_UNREACHABLE_ERRNOS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_NO_CREDENTIALS_CLASSES = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "SSOError"}
)
_CERTIFICATE_CLASSES = frozenset({"SSLError", "ClientConnectorCertificateError", "ClientConnectorSSLError"})

_answered: set[str] = set()  # endpoints that have answered this process, so that an outage is not taken for a typo


def attempting(endpoint: str, attempt: Callable[[], T]) -> T:
    """Calls `attempt`, and again while storage is unavailable: a few times, ever later, each with a line in the log.

    Args:
        endpoint: which service it asks. One that has never answered is given up sooner.
    """

    def counted() -> T:
        try:
            result = attempt()
        except StorageUnreachable:
            raise
        except ShardmillError:
            _answered.add(endpoint)
            raise
        _answered.add(endpoint)
        return result

    def stop(state: tenacity.RetryCallState) -> bool:
        unknown = endpoint not in _answered
        error = state.outcome.exception() if state.outcome else None
        patience_s = UNREACHABLE_S if unknown and isinstance(error, StorageUnreachable) else PATIENCE_S
        return state.attempt_number >= ATTEMPTS or tenacity.stop_before_delay(patience_s)(state)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StorageUnavailable),
        stop=stop,
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        before_sleep=_log_retry,
        reraise=True,
    )(counted)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_s = state.next_action.sleep if state.next_action else 0.0
    logger.warning("%s Attempt %d of %d, again in %.1f s.", error, state.attempt_number, ATTEMPTS, wait_s)


def redacted(message: str, options: Mapping[str, Any]) -> str:
    """A driver's words without the texts among its options, which may be secrets, however deep they lie."""
    for secret in sorted(_texts(options), key=len, reverse=True):  # one may be part of another
        message = message.replace(secret, "***")
    return message


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str() if len(value) > 3:
            yield value
        case Mapping():
            for name, inner in value.items():
                if name != "endpoint_url":
                    yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def translated(error: Exception, url: str, detail: str) -> ShardmillError:
    """Our error for one of a driver.

    Args:
        url: the place concerned, fit to be shown.
        detail: the driver's own words, without secrets.
    """
    code, status, names = _code(error), status_of(error), {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, ShardmillError):
        return error
    if isinstance(error, FileExistsError) or status == 412:
        return CommitConflict(f"{url} is there already.")
    if code == "NoSuchUpload":  # completed by an attempt whose reply was lost, or aborted as a leftover
        return StorageUnavailable(f"{url}: the upload is no longer there ({detail}).")
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
    if refusal := _refusal(error, code, status, names):
        return StorageError(f"{url}: {refusal.format(detail=detail)}")
    if names & _UNREACHABLE_CLASSES or (isinstance(error, OSError) and error.errno in _UNREACHABLE_ERRNOS):
        return StorageUnreachable(
            f"{url}: nobody answers ({detail}). Check the endpoint (`endpoint_url` in the storage options, or "
            "AWS_ENDPOINT_URL) and the network."
        )
    if _may_pass(error, status, names):
        return StorageUnavailable(f"{url}: not available now ({detail}).")
    return StorageError(f"{url}: {detail}")


def _refusal(error: Exception, code: str | None, status: int | None, names: set[str]) -> str | None:
    """Why the store will not serve us, whatever is asked of it, and what to do; None if it is not that."""
    if code in _EXPIRED_CODES:
        return "the credentials have expired ({detail}). Renew them and run the same command again."
    if code == "RequestTimeTooSkewed":
        return "this machine's clock differs too much from the store's ({detail}). Set it right."
    if isinstance(error, PermissionError) or status in (401, 403):
        return (
            "access refused ({detail}). Check the credentials in the storage options or the environment; "
            "a public bucket is read with `anon: true`."
        )
    if code == "400":  # the reply to a HEAD has no body that could say more
        return "refused without a reason ({detail}). Credentials that have expired, or another region, look like this."
    if names & _NO_CREDENTIALS_CLASSES:
        return (
            "no credentials ({detail}). Give `key` and `secret` in the storage options or the usual environment "
            "variables; a public bucket is read with `anon: true`."
        )
    if isinstance(error, OSError) and error.errno in _FULL_ERRNOS:
        return "a disk is full ({detail}). Make room there and run the same command again."
    if names & _CERTIFICATE_CLASSES:
        return "no secure connection ({detail}). Check the endpoint, and that this machine trusts its certificate."
    return None


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


def status_of(error: Exception) -> int | None:
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
        advice = " Make room there and run the same command again." if error.errno in _FULL_ERRNOS else ""
        raise StorageError(f"{path}: {error.strerror or type(error).__name__}.{advice}") from error
