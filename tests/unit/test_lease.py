"""One driver at a time, as far as drivers are alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import lease as module
from pipeline.errors import OutputConflict
from pipeline.lease import LEASE, STALE_S, Lease
from pipeline.storage import Storage


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def leave_lease(output: Storage, **changes: Any) -> None:
    holder = {"run_id": "theirs", "host": "elsewhere", "pid": 1, "renewed_at": time.time()}
    output.write_bytes(LEASE, json.dumps(holder | changes).encode())


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_is_given_back(output: Storage) -> None:
    with Lease(output, "first"):
        assert output.exists(LEASE)
    assert not output.exists(LEASE)
    with Lease(output, "second") as second:
        second.check()


def test_a_second_driver_is_refused_while_the_first_lives(output: Storage) -> None:
    with (
        Lease(output, "first"),
        pytest.raises(OutputConflict, match=r"written by run first on .* Wait for it to end"),
        Lease(output, "second"),
    ):
        pass


def test_a_live_lease_of_another_machine_is_respected(output: Storage) -> None:
    leave_lease(output)
    with pytest.raises(OutputConflict, match=r"on elsewhere, .* try again in \d+ s"), Lease(output, "ours"):
        pass
    assert json.loads(output.read_bytes(LEASE))["run_id"] == "theirs"


def test_a_stale_lease_is_taken_over(output: Storage, caplog: pytest.LogCaptureFixture) -> None:
    leave_lease(output, renewed_at=time.time() - STALE_S - 1)
    with Lease(output, "ours"):
        assert json.loads(output.read_bytes(LEASE))["run_id"] == "ours"
    assert "run theirs is gone: taking over" in caplog.text


def test_the_lease_of_a_driver_that_was_killed_here_is_taken_over_at_once(output: Storage) -> None:
    leave_lease(output, host=os.uname().nodename, pid=ended_process())
    with Lease(output, "ours"):
        assert json.loads(output.read_bytes(LEASE))["run_id"] == "ours"


def test_a_damaged_lease_holds_nobody_up(output: Storage) -> None:
    output.write_bytes(LEASE, b'{"run_id": ')
    with Lease(output, "ours"):
        pass


def test_it_is_renewed_and_a_takeover_is_noticed(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.02)

    def wait_for(condition: Any) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    with Lease(output, "ours") as ours:
        first = json.loads(output.read_bytes(LEASE))["renewed_at"]
        wait_for(lambda: json.loads(output.read_bytes(LEASE))["renewed_at"] > first)

        def taken_over() -> bool:
            leave_lease(output)  # again and again: a renewal that had begun may overwrite it once
            try:
                ours.check()
            except OutputConflict as error:
                return "run theirs has taken over" in str(error)
            return False

        wait_for(taken_over)
    assert json.loads(output.read_bytes(LEASE))["run_id"] == "theirs"
