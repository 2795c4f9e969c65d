"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.s3 import S3Bucket, S3Server, running_s3

# A Ray that the product starts keeps to loopback (see pipeline/pool.py); the tests' clusters of two nodes cannot.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")

# These machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3-compatible server over HTTP; started when the first test asks for it."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> S3Bucket:
    """A new, empty bucket: `s3_bucket.url` and the `s3_bucket.options` to reach it."""
    return s3_server.make_bucket()
