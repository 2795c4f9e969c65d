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
from pipeline.lease import LEASE, Lease
from pipeline.storage import Storage


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    monkeypatch.setattr(module, "STALE_S", 0.2)


def leave_lease(output: Storage, **changes: Any) -> None:
    holder = {"run_id": "theirs", "host": "elsewhere", "pid": 1, "renewed_at": time.time()}
    output.write_bytes(LEASE, json.dumps(holder | changes).encode())


def here(pid: int, started: str | None) -> dict[str, Any]:
    """Marks of a driver in a process that can be seen from here."""
    return {"host": os.uname().nodename, "machine": module._machine(), "pid": pid, "started": started}


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
        pytest.raises(OutputConflict, match=r"written by run first on .* is alive. Wait for it to end"),
        Lease(output, "second"),
    ):
        pass


def test_a_driver_elsewhere_that_renews_its_lease_is_respected(
    output: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_lease(output, renewed_at=0.0)  # its clock may say anything
    monkeypatch.setattr(module, "STALE_S", 60.0)
    monkeypatch.setattr(time, "sleep", lambda _: leave_lease(output, renewed_at=10.0))
    with pytest.raises(OutputConflict, match="by run theirs on elsewhere, which is alive"), Lease(output, "ours"):
        pass
    assert json.loads(output.read_bytes(LEASE))["run_id"] == "theirs"
    assert "run theirs on elsewhere holds the output: waiting up to 60 s for a sign of life" in caplog.text


@pytest.mark.parametrize("place", [{}, {"host": os.uname().nodename, "machine": "another boot 7", "pid": os.getpid()}])
def test_a_lease_from_elsewhere_that_is_not_renewed_is_taken_over(
    output: Storage, place: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    leave_lease(output, renewed_at=time.time() + 1000.0, **place)
    with Lease(output, "ours"):
        assert json.loads(output.read_bytes(LEASE))["run_id"] == "ours"
    assert "run theirs is gone: taking over" in caplog.text


def test_a_driver_elsewhere_that_ends_while_we_wait_makes_room(
    output: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_lease(output)
    monkeypatch.setattr(module, "STALE_S", 60.0)
    monkeypatch.setattr(time, "sleep", lambda _: output.remove(LEASE))
    with Lease(output, "ours"):
        assert json.loads(output.read_bytes(LEASE))["run_id"] == "ours"


def test_a_pod_of_the_same_name_is_not_this_machine(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process numbers mean nothing here: that ours has no such process does not make its driver dead."""
    leave_lease(output, **here(ended_process(), "1") | {"machine": "this boot, but another pid namespace"})
    monkeypatch.setattr(module, "STALE_S", 60.0)
    monkeypatch.setattr(time, "sleep", lambda _: leave_lease(output))
    with pytest.raises(OutputConflict, match="alive"), Lease(output, "ours"):
        pass


@pytest.mark.parametrize("process", ["ended", "another of the same number", "hangs"])
def test_the_lease_of_a_driver_that_was_killed_here_is_taken_over_at_once(
    output: Storage, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = ended_process() if process == "ended" else os.getpid()
    started = module._start_time(pid) if process == "hangs" else "1"
    age_s = 1000.0 if process == "hangs" else 0.0
    leave_lease(output, **here(pid, started), renewed_at=time.time() - age_s)
    monkeypatch.delattr(time, "sleep")
    with Lease(output, "ours"):
        assert json.loads(output.read_bytes(LEASE))["run_id"] == "ours"


def test_a_damaged_lease_holds_nobody_up(output: Storage) -> None:
    output.write_bytes(LEASE, b'{"run_id": ')
    with Lease(output, "ours"):
        pass


def test_it_is_renewed_and_a_takeover_is_noticed(output: Storage) -> None:
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
