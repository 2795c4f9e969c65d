"""Storage on an S3 server that misbehaves: every operation ends right, or with the right error."""

from __future__ import annotations

import os

import pytest

from pipeline.storage import Storage
from tests.support.fault_proxy import FaultProxy
from tests.support.s3 import S3Server

MANY_SEEDS = range(4)


@pytest.mark.parametrize("seed", MANY_SEEDS)
def test_every_operation_ends_right(seed: int, s3_server: S3Server) -> None:
    with FaultProxy(s3_server.endpoint_url, seed=seed, rate=0.3, delay_s=0.05) as proxy:
        bucket = proxy.bucket(s3_server.make_bucket())
        storage = Storage.open(f"{bucket.url}/root", bucket.options)
        written = {}
        for number in range(20):
            path = f"folder/{number:02d}"
            written[path] = os.urandom(1000 * number)
            storage.write_bytes(path, written[path])
            assert storage.read_bytes(path) == written[path]
        assert [entry.path for entry in storage.list()] == sorted(written)
