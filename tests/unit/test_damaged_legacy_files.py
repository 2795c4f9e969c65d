"""Files that are cut short, of another kind, or made to do harm: refused in one message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
import torch

from models.errors import CheckpointError
from models.roberta import RobertaModel
from tests.support import legacy_files
from tests.support.legacy_files import FIXTURES, packed_array

LAYER = "roberta/tf_roberta_model/roberta"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(FIXTURES / "TFRobertaModel" / "config.json", tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    """The message with which a folder's weights are refused."""
    with pytest.raises(CheckpointError) as caught:
        RobertaModel.from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def unreadable(folder: Path, filename: str) -> str:
    """The reason why a file cannot be read."""
    before, after = f"{folder / filename}: the weights cannot be read (", "); download or save them again"
    message = refusal(folder)
    assert message.startswith(before)
    assert message.endswith(after)
    return message.removeprefix(before).removesuffix(after)


# -- HDF5 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 100, 5_000, 100_000, -1])
def test_an_hdf5_file_that_is_cut_short(kept: int, folder: Path) -> None:
    whole = (FIXTURES / "TFRobertaModel" / "tf_model.h5").read_bytes()
    (folder / "tf_model.h5").write_bytes(whole[:kept])
    assert unreadable(folder, "tf_model.h5")


@pytest.mark.parametrize("filename", ["tf_model.h5", "flax_model.msgpack", "model.ckpt.index"])
def test_a_file_of_another_kind(filename: str, folder: Path) -> None:
    (folder / filename).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert unreadable(folder, filename)


def elsewhere(file: h5py.File) -> None:
    with h5py.File(f"{file.filename}.other", "w") as other:
        other["x"] = np.zeros(3, np.float32)
    file[f"{LAYER}/x:0"] = h5py.ExternalLink(f"{file.filename}.other", "x")


def soft_link(file: h5py.File) -> None:
    file[f"{LAYER}/x:0"] = h5py.SoftLink("/roberta")


def external_storage(file: h5py.File) -> None:
    Path(f"{file.filename}.raw").write_bytes(bytes(12))
    file.create_dataset(f"{LAYER}/x:0", (3,), np.float32, external=[(f"{file.filename}.raw", 0, 12)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), np.float32)
    layout[:] = h5py.VirtualSource(f"{file.filename}.other", "x", (3,))
    file.create_virtual_dataset(f"{LAYER}/x:0", layout)


def compressed(file: h5py.File) -> None:
    file.create_dataset(f"{LAYER}/x:0", (10**9,), np.float32, chunks=(10**6,), compression="gzip")


def without_values(file: h5py.File) -> None:
    file.create_dataset(f"{LAYER}/x:0", (10**12,), np.float32)


def text(file: h5py.File) -> None:
    file[f"{LAYER}/x:0"] = ["text"]


def integers(file: h5py.File) -> None:
    file[f"{LAYER}/x:0"] = np.zeros(3, np.int32)


def no_values_at_all(file: h5py.File) -> None:
    file[f"{LAYER}/x:0"] = h5py.Empty(np.float32)


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (elsewhere, "found a link to another place"),
        (soft_link, "found a link to another place"),
        (external_storage, "found a reference to another file"),
        (virtual, "found a reference to another file"),
        (compressed, "found one that is chunked or compressed"),
        (without_values, "expected 4000000000000 bytes; found 0"),
        (text, "expected floating-point numbers; found object"),
        (integers, "expected floating-point numbers; found int32"),
        (no_values_at_all, "damaged: "),
    ],
)
def test_only_plain_arrays_are_read(add: Callable[[h5py.File], None], reason: str, folder: Path) -> None:
    shutil.copy(FIXTURES / "TFRobertaModel" / "tf_model.h5", folder)
    with h5py.File(folder / "tf_model.h5", "a") as file:
        add(file)
    assert reason in unreadable(folder, "tf_model.h5")


def test_an_array_under_many_names_is_not_read_many_times(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "w") as file:
        file[f"{LAYER}/0"] = np.zeros(10**5, np.float32)
        file["roberta"].attrs["weight_names"] = np.zeros(0)
        for number in range(1, 500):
            file[f"{LAYER}/{number}"] = file[f"{LAYER}/0"]
    assert "bytes of arrays; found 200000000" in unreadable(folder, "tf_model.h5")


def test_groups_may_not_go_in_circles(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "w") as file:
        inner = file.create_group("a/b")
        inner["c"] = file["a"]
    assert "missing: embeddings.LayerNorm.bias" in refusal(folder)


# -- msgpack ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 100, 5_000, 50_000, -1])
def test_a_msgpack_file_that_is_cut_short(kept: int, folder: Path) -> None:
    whole = (FIXTURES / "FlaxRobertaModel" / "flax_model.msgpack").read_bytes()
    (folder / "flax_model.msgpack").write_bytes(whole[:kept])
    assert unreadable(folder, "flax_model.msgpack")


def array(shape: Any, dtype: Any, raw: Any) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb([shape, dtype, raw]))


FOUR = packed_array(torch.zeros(4))
BAD_TREES: list[tuple[Any, str]] = [
    ([FOUR], "exceeds max_array_len"),
    (FOUR, "expected a map of weights; found Tensor"),
    (7, "expected a map of weights; found int"),
    ({"a": {"b": 7}}, "a/b: expected an array; found int"),
    ({"a": b"\x80\x04."}, "a: expected an array; found bytes"),
    ({"a": msgpack.ExtType(2, b"")}, "expected arrays, extension type 1; found extension type 2"),
    ({"a": msgpack.Timestamp(0)}, "a: expected an array; found Timestamp"),
    ({"a": array([4], "float32", bytes(15))}, "expected as many bytes as [4] of float32 need; found 15"),
    ({"a": array([2**40], "float32", b"")}, "expected as many bytes as [1099511627776] of float32 need; found 0"),
    ({"a": array([2**63, 2**63, 0], "float32", b"")}, "expected an array's shape, dtype and bytes"),
    ({"a": array([-1, -4], "float32", bytes(16))}, "expected an array's shape, dtype and bytes"),
    ({"a": array([1.0], "float32", bytes(4))}, "expected an array's shape, dtype and bytes"),
    ({"a": array("4", "float32", bytes(4))}, "expected an array's shape, dtype and bytes"),
    ({"a": array([1] * 9, "float32", bytes(4))}, "exceeds max_array_len"),
    ({"a": array([1], "object", bytes(8))}, "expected an array of float16, bfloat16, float32, float64; found 'object'"),
    ({"a": msgpack.ExtType(1, b"\xdd\xff\xff\xff\xff")}, "exceeds max_array_len"),
    ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {"1": FOUR}}}, "a part missing"),
    ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 5}, "chunks": {"0": FOUR}}}, "a part missing or missh"),
    ({"a": {"__msgpack_chunked_array__": True, "chunks": {"0": FOUR}}}, "a part missing"),
    ({"a" * 600: {"b" * 600: FOUR}}, "expected names of at most 1000 characters; found one of 1201"),
]


@pytest.mark.parametrize(("tree", "reason"), BAD_TREES)
def test_only_a_tree_of_arrays_is_read(tree: Any, reason: str, folder: Path) -> None:
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb(tree))
    assert reason in unreadable(folder, "flax_model.msgpack")


def test_deep_nesting_is_refused(folder: Path) -> None:
    (folder / "flax_model.msgpack").write_bytes(b"\x81\xa1a" * 100_000)
    assert unreadable(folder, "flax_model.msgpack")


# -- tensor bundles --------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(folder: Path) -> Path:
    """The index of a checkpoint with two arrays."""
    arrays = {"bert/a/kernel": np.zeros((3, 4), np.float32), "bert/b/bias": np.zeros(3, np.float32)}
    legacy_files.write_bundle(folder / "model.ckpt", arrays, block_entries=2)
    return folder / "model.ckpt.index"


@pytest.mark.parametrize("kept", [0, 10, 50, -1])
def test_an_index_that_is_cut_short(kept: int, bundle: Path) -> None:
    bundle.write_bytes(bundle.read_bytes()[:kept])
    assert "expected the index of a TensorFlow checkpoint" in unreadable(bundle.parent, bundle.name)


def test_arrays_that_are_cut_short(bundle: Path) -> None:
    bundle.with_suffix(".data-00000-of-00001").write_bytes(bytes(59))
    assert "expected at least 60 bytes; found 59" in unreadable(bundle.parent, bundle.name)


def test_a_compressed_index(bundle: Path) -> None:
    legacy_files.write_bundle(bundle.with_suffix(""), {"a": np.zeros(3, np.float32)}, kind=1)
    assert "expected an index without compression" in unreadable(bundle.parent, bundle.name)
