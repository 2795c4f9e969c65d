"""A driver whose cluster is gone, or was never there, ends with a message, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import JobSpec
from tests.support.every_format import rows
from tests.support.finished import parts_of
from tests.support.ray_nodes import descendants

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATIENCE_S = 120
NUM_ROWS = 6000  # more than are done before the silence is noticed

# The command, with less patience than it has for those who restart a head.
COMMAND = (
    "import pipeline.pool as pool; pool._CLUSTER_PATIENCE_S = 4.0; pool.PROGRESS_S = 0.5\n"
    "from jobs.cli import main; main()"
)


def test_a_driver_whose_cluster_is_gone_says_so_and_can_be_run_again(models: dict[str, Path], tmp_path: Path) -> None:
    pq.write_table(rows(NUM_ROWS), tmp_path / "corpus.parquet", row_group_size=10)
    spec = JobSpec(
        name="lost cluster",
        input={"url": str(tmp_path / "corpus.parquet"), "unit_bytes": 1},
        output={"url": str(tmp_path / "out"), "keep": ["id"]},
        model={"path": str(models["classify"])},
        task={"type": "classify"},
    )
    (tmp_path / "job.yaml").write_text(spec.to_yaml())
    command = [sys.executable, "-c", COMMAND, "run", str(tmp_path / "job.yaml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + PATIENCE_S
        while not parts_of(tmp_path / "out"):
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (pid,) = descendants(driver.pid, "gcs_server")
        os.kill(pid, signal.SIGKILL)
        _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 1, errors
    assert "the head of the Ray cluster has not answered for 4 s" in errors
    assert "Traceback" not in errors

    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert again.returncode == 0, again.stderr
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == list(range(NUM_ROWS))


def test_a_cluster_that_does_not_answer_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one text\n")
    nowhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_gcs_server_port_wait_time_s": "1"}  # one try
    arguments = ["--model", str(models["classify"]), "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "classify", *arguments],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "error: no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1. Start it, or correct the address" in ended.stderr
    assert "Traceback" not in ended.stderr
