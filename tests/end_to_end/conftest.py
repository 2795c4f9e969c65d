"""What the tests of whole jobs share: tiny models, a corpus in every format, and one Ray cluster of two nodes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.support.every_format import Corpus, write_every_format
from tests.support.ray_nodes import NODE, SYSTEM
from tests.support.tiny_models import tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model's folder for each kind of job."""
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_every_format(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes of two CPUs, to which this process is connected; other processes get there by RAY_ADDRESS."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; without it Ray warns
    started = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": SYSTEM})
    started.add_node(**NODE)
    ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR)
    yield started
    ray.shutdown()
    started.shutdown()
