"""What drivers raise, in our words: which errors end a run, and what the user is told to do."""

from __future__ import annotations

import errno
import ssl

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from s3fs.errors import translate_boto_error

from pipeline.errors import (
    CommitConflict,
    ShardmillError,
    StorageError,
    StorageNotFound,
    StorageUnavailable,
    StorageUnreachable,
)
from pipeline.storage_errors import redacted, translated

HOST = {"endpoint_url": "http://host"}


def of_s3(code: str, status: int) -> ShardmillError:
    """What comes of an error code through the driver."""
    response = {"Error": {"Code": code, "Message": "the store's words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return of(translate_boto_error(ClientError(response, "GetObject")))  # type: ignore[arg-type]


def of(error: Exception) -> ShardmillError:
    return translated(error, "s3://bucket/x", f"{type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("ExpiredToken", 400, "credentials have expired .*Renew them and run the same command again"),
        ("AccessDenied", 403, "access refused .*Check the credentials"),
        ("InvalidAccessKeyId", 403, "access refused .*Check the credentials"),
        ("SignatureDoesNotMatch", 403, "access refused .*Check the credentials"),
        ("403", 403, "access refused .*Check the credentials"),
        ("400", 400, "refused without a reason .*Credentials that have expired"),
        ("RequestTimeTooSkewed", 403, "clock differs .*Set it right"),
        ("NoSuchBucket", 404, "bucket does not exist; check its name"),
    ],
)
def test_what_no_other_unit_would_do_better_ends_the_run(code: str, status: int, advice: str) -> None:
    error = of_s3(code, status)
    assert isinstance(error, StorageError)
    assert (error.retry, error.reach, error.exit_code) == (False, "run", 4)
    with pytest.raises(StorageError, match=f"s3://bucket/x: .*{advice}"):
        raise error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NoCredentialsError(), "no credentials .*Give `key` and `secret`"),
        (PartialCredentialsError(provider="env", cred_var="secret"), "no credentials .*Give `key` and `secret`"),
        (SSLError(**HOST, error=ssl.SSLError("CERTIFICATE_VERIFY_FAILED")), "no secure connection .*certificate"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full .*Make room"),
    ],
)
def test_what_is_wrong_with_this_machine_ends_the_run(error: Exception, advice: str) -> None:
    found = of(error)
    assert (found.retry, found.reach) == (False, "run")
    with pytest.raises(StorageError, match=advice):
        raise found


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("ServiceUnavailable", 503),
        ("503", 503),
        ("InternalError", 500),
        ("500", 500),
        ("RequestTimeout", 400),
        ("OperationAborted", 409),
        ("ConditionalRequestConflict", 409),
        ("NoSuchUpload", 404),
    ],
)
def test_what_may_pass(code: str, status: int) -> None:
    assert type(of_s3(code, status)) is StorageUnavailable


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ReadTimeoutError(**HOST),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        CredentialRetrievalError(provider="imds", error_msg="no reply"),
    ],
)
def test_what_may_pass_in_the_connection(error: Exception) -> None:
    assert type(of(error)) is StorageUnavailable


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(**HOST),
        ConnectTimeoutError(**HOST),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        OSError(errno.EHOSTUNREACH, "no route"),
    ],
)
def test_nobody_answers(error: Exception) -> None:
    found = of(error)
    assert isinstance(found, StorageUnreachable)
    assert found.retry


def test_what_is_there_and_what_is_not() -> None:
    assert isinstance(of_s3("PreconditionFailed", 412), CommitConflict)
    assert isinstance(of_s3("NoSuchKey", 404), StorageNotFound)


def test_a_secret_that_begins_with_another_is_hidden_whole() -> None:
    assert redacted("no user-pass-9999", {"key": "user", "secret": "user-pass-9999"}) == "no ***"
