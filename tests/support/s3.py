"""A real S3-compatible server over HTTP for the tests: moto's, on loopback, in a process of its own.

It honours `If-None-Match: *` both on PutObject and on CompleteMultipartUpload (checked through s3fs, `mode="create"`:
the second writer gets 412 PreconditionFailed and the first one's content stays), so exclusive creation is tested for
real, small files and multipart ones. Its check and its write are not one atomic step, though: two writers in the same
millisecond are not what it can test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3

STARTUP_S = 60
CREDENTIALS = {"key": "test-key-id", "secret": "test-secret-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Bucket:
    """A bucket on the test server."""

    name: str
    options: dict[str, Any]  # storage options for a job, as plain JSON values

    @property
    def url(self) -> str:
        return f"s3://{self.name}"


@dataclass(slots=True, kw_only=True)
class S3Server:
    """A running server."""

    endpoint_url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.endpoint_url, **CREDENTIALS}

    def make_bucket(self) -> S3Bucket:
        """A new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["key"],
            aws_secret_access_key=CREDENTIALS["secret"],
        )
        client.create_bucket(Bucket=name)
        client.close()
        return S3Bucket(name=name, options=self.options)


@contextlib.contextmanager
def running_s3(**environment: str) -> Iterator[S3Server]:
    """Starts a server and stops it in the end; `environment` is for moto's settings."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(process, port)
        yield S3Server(endpoint_url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Returns when a new server takes connections; raises `RuntimeError` if it ends or takes too long."""
    deadline = time.monotonic() + STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start on port {port}")
