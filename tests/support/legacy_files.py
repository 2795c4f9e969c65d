"""Reads and writes weights in the formats of TensorFlow and Flax, by the formats' rules and without our readers."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.modeling import PreTrainedModel

Arrays = Mapping[str, npt.NDArray[Any]]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "legacy"

# -- HDF5 ------------------------------------------------------------------------------------------------------


def read_h5(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Arrays of a whole file as its attributes list them: `<layer>/<model>/<weight>`."""
    with h5py.File(path, "r") as file:
        paths = [f"{layer}/{name}" for layer in file.attrs["layer_names"] for name in file[layer].attrs["weight_names"]]
        return {path: file[path][()] for path in paths}


def write_h5(path: Path, arrays: Arrays, *, style: str = "variable") -> None:
    """Writes a whole file.

    Args:
        arrays: By paths such as those of `read_h5`.
        style: How lists of names are kept: "variable" or "fixed" strings, or "split" into several attributes.
    """
    layers = list(dict.fromkeys(name.partition("/")[0] for name in arrays))
    with h5py.File(path, "w") as file:
        _write_names(file, "layer_names", layers, style)
        for layer in layers:
            names = [name.partition("/")[2] for name in arrays if name.startswith(f"{layer}/")]
            _write_names(file.create_group(layer), "weight_names", names, style)
        _write_names(file.create_group("top_level_model_weights"), "weight_names", [], style)
        for name, values in arrays.items():
            file[name] = values


def write_h5_shard(path: Path, arrays: Arrays) -> None:
    """Writes one shard; names are those of weights, without the model's."""
    with h5py.File(path, "w") as file:
        _write_names(file, "layer_names", list(arrays), "variable")
        for name, values in arrays.items():
            file[name] = values


def _write_names(group: h5py.Group, attribute: str, names: list[str], style: str) -> None:
    if not names:
        group.attrs[attribute] = np.zeros(0)
    elif style == "variable":
        group.attrs[attribute] = names
    elif style == "fixed":
        group.attrs[attribute] = np.array([name.encode() for name in names])
    else:
        for number, part in enumerate(np.array_split(np.array([name.encode() for name in names]), 2)):
            group.attrs[f"{attribute}{number}"] = part


# -- msgpack ---------------------------------------------------------------------------------------------------


def read_msgpack(path: Path) -> dict[str, Tensor]:
    """Arrays of a file by their names, with slashes."""

    def read_array(extension: int, payload: bytes) -> Tensor:
        shape, dtype, raw = msgpack.unpackb(payload)
        return torch.frombuffer(bytearray(raw), dtype=getattr(torch, dtype)).reshape(shape)

    def flatten(tree: Any, prefix: str = "") -> dict[str, Tensor]:
        if isinstance(tree, Tensor):
            return {prefix[1:]: tree}
        return {name: array for key in tree for name, array in flatten(tree[key], f"{prefix}/{key}").items()}

    return flatten(msgpack.unpackb(path.read_bytes(), ext_hook=read_array))


def write_msgpack(path: Path, arrays: Mapping[str, Tensor], *, chunk: int | None = None) -> None:
    """Writes a file or a shard.

    Args:
        chunk: Cut arrays into pieces of so many values.
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        node = tree
        *parents, leaf = name.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = packed_array(array) if chunk is None else _chunked(array, chunk)
    path.write_bytes(msgpack.packb(tree))


def packed_array(array: Tensor) -> msgpack.ExtType:
    raw = array.clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy().tobytes()
    return msgpack.ExtType(1, msgpack.packb([list(array.shape), str(array.dtype).removeprefix("torch."), raw]))


def _chunked(array: Tensor, size: int) -> dict[str, Any]:
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(axis): length for axis, length in enumerate(array.shape)},
        "chunks": {str(i): packed_array(part) for i, part in enumerate(array.flatten().split(size))},
    }


# -- tensor bundles --------------------------------------------------------------------------------------------


def write_bundle(prefix: Path, arrays: Arrays, *, num_shards: int = 1, block_entries: int = 16, kind: int = 0) -> None:
    """Writes `<prefix>.index` and its data files.

    Args:
        block_entries: How many entries a block of the index gets.
        kind: The byte that says how blocks are compressed. (They are not.)
    """
    data = [b""] * num_shards
    entries = [(b"", _field(1, num_shards) + _field(3, _field(1, 1)))]
    for number, name in enumerate(sorted(arrays)):
        values = arrays[name]
        shard = number % num_shards
        shape = b"".join(_field(2, _field(1, length)) for length in values.shape)
        dtype = {"float32": 1, "float64": 2, "int64": 9, "float16": 19}[values.dtype.name]
        place = _field(3, shard) + _field(4, len(data[shard])) + _field(5, values.nbytes)
        entries.append((name.encode(), _field(1, dtype) + _field(2, shape) + place + b"\x35" + bytes(4)))
        data[shard] += values.tobytes()
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{num_shards:05d}").write_bytes(content)
    Path(f"{prefix}.index").write_bytes(_table(entries, block_entries, kind))


def _table(entries: list[tuple[bytes, bytes]], block_entries: int, kind: int) -> bytes:
    table = b""

    def add_block(items: list[tuple[bytes, bytes]]) -> bytes:
        nonlocal table
        block, last = b"", b""
        for key, value in items:
            shared = next(
                (i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key))
            )
            block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
            last = key
        block += struct.pack("<II", 0, 1)  # one restart, at the front
        handle = _varint(len(table)) + _varint(len(block))
        table += block + bytes([kind]) + bytes(4)
        return handle

    blocks = [entries[start : start + block_entries] for start in range(0, len(entries), block_entries)]
    handles = [(block[-1][0], add_block(block)) for block in blocks]
    footer = add_block([]) + add_block(handles)
    return table + footer.ljust(40, b"\x00") + struct.pack("<Q", 0xDB4775248B80FB57)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number * 8) + _varint(value)
    return _varint(number * 8 + 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


# -- torch models as the frameworks name them ------------------------------------------------------------------


def as_keras(model: PreTrainedModel, model_name: str) -> dict[str, npt.NDArray[Any]]:
    """A model's weights by the paths that the TF class of the same name would give them in `tf_model.h5`."""
    arrays = {}
    for name, values in _weights(model):
        module, _, leaf = name.rpartition(".")
        layer = model.get_submodule(module)
        if isinstance(layer, nn.Linear) and leaf == "weight":
            leaf, values = "kernel", values.T
        elif isinstance(layer, nn.LayerNorm):
            leaf = {"weight": "gamma", "bias": "beta"}[leaf]
        elif leaf == "weight" and not module.endswith("word_embeddings"):
            leaf = "embeddings"
        path = re.sub(r"layer/(\d+)", r"layer_._\1", module.replace(".", "/")).split("/")
        if path[0] == "cls":
            path[0] = "nsp___cls" if path[1] == "seq_relationship" else "mlm___cls"
        if model.base_model is model:
            path.insert(0, model.base_model_prefix)
        arrays["/".join([path[0], model_name, *path, f"{leaf}:0"])] = values.contiguous().numpy()
    return arrays


def as_flax(model: PreTrainedModel) -> dict[str, Tensor]:
    """A model's weights by the names that the Flax class of the same name would give them."""
    arrays = {}
    for name, values in _weights(model):
        module, _, leaf = name.rpartition(".")
        layer = model.get_submodule(module)
        if isinstance(layer, nn.Linear) and leaf == "weight":
            leaf, values = "kernel", values.T
        elif leaf == "weight":
            leaf = "scale" if isinstance(layer, nn.LayerNorm) else "embedding"
        if "embed_positions" not in module:
            arrays[f"{module}.{leaf}".replace(".", "/")] = values
    return arrays


def _weights(model: PreTrainedModel) -> list[tuple[str, Tensor]]:
    return [(name, values) for name, values in model.state_dict().items() if ".decoder." not in name]


# -- sharded ---------------------------------------------------------------------------------------------------


def write_index(path: Path, shard_of: Mapping[str, str]) -> None:
    path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": dict(shard_of)}))
