"""Staging folders go with their replica, or, if that was killed, when the next one starts on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import staging
from pipeline.staging import StagingFolder


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_what_is_in_it(parent: Path) -> None:
    folder = StagingFolder()
    part = folder.make() / "part"
    part.write_bytes(b"half")
    folder.remove_if_empty()
    assert folder.make() == part.parent
    assert list(parent.iterdir()) == [part.parent]
    folder.remove()
    folder.remove()
    assert list(parent.iterdir()) == []


def test_it_is_there_only_while_something_is_in_it(parent: Path) -> None:
    folder = StagingFolder()
    assert list(parent.iterdir()) == []
    for _ in range(2):
        part = folder.make() / "part"
        part.write_bytes(b"half")
        part.unlink()
        folder.remove_if_empty()
        assert list(parent.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time; from pathlib import Path; from pipeline.staging import StagingFolder\n"
        "folder = StagingFolder().make(); (folder / 'part').write_bytes(b'half'); print(folder, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(parent)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        in_use = StagingFolder()
        path = in_use.make()
        monkeypatch.setattr(staging, "YOUNG_S", 0.0)
        StagingFolder()
        assert set(parent.iterdir()) == {left, path}
        process.send_signal(signal.SIGKILL)
        process.wait()
        StagingFolder()
        assert list(parent.iterdir()) == [path]
        in_use.remove()


def test_it_is_made_anew_where_somebody_cleans_the_parent(parent: Path) -> None:
    folder = StagingFolder()
    folder.make().rmdir()
    folder.remove_if_empty()
    assert folder.make().is_dir()
    assert list(parent.iterdir()) == [folder.make()]
