"""Whatever is wrong with a file's bytes, it is read or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import legacy
from tests.support import legacy_files
from tests.support.legacy_files import FIXTURES

Reader = Callable[[Path], dict[str, Tensor]]

changes = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def check(read: Reader, path: Path, whole: bytes, changes: list[tuple[int, int]], kept: int, reach: int) -> None:
    """Reads a file with some of its first bytes changed and its end cut off."""
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[place % min(reach, len(whole))] = value
    path.write_bytes(damaged[: len(whole) - kept])
    try:
        tensors = read(path)
    except (OSError, ValueError):
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) <= len(whole)


@given(changes=changes, cut=st.sampled_from([0, 0, 0, 1, 7, 5_000]))
def test_msgpack(changes: list[tuple[int, int]], cut: int, folder: Path) -> None:
    whole = (FIXTURES / "FlaxRobertaModel" / "flax_model.msgpack").read_bytes()
    check(legacy.read_flax_msgpack, folder / "x.msgpack", whole, changes, cut, reach=2_000)


@settings(max_examples=50)
@given(changes=changes, cut=st.sampled_from([0, 0, 0, 1, 7, 5_000]))
def test_hdf5(changes: list[tuple[int, int]], cut: int, folder: Path) -> None:
    whole = (FIXTURES / "TFRobertaModel" / "tf_model.h5").read_bytes()
    check(legacy.read_tensorflow_h5, folder / "x.h5", whole, changes, cut, reach=20_000)


@given(changes=changes, cut=st.sampled_from([0, 0, 0, 1, 7, 60]))
def test_bundle(changes: list[tuple[int, int]], cut: int, folder: Path) -> None:
    arrays = {f"bert/encoder/layer_{i}/kernel": np.zeros((3, i + 1), np.float32) for i in range(9)}
    legacy_files.write_bundle(folder / "x.ckpt", arrays, block_entries=4)
    whole = (folder / "x.ckpt.index").read_bytes()
    check(legacy.read_tensorflow_bundle, folder / "x.ckpt.index", whole, changes, cut, reach=len(whole))
