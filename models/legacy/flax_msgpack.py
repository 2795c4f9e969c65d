"""`flax_model.msgpack`: weights as Flax writes them, nested maps of arrays.

An array is an extension whose payload is msgpack again: shape, dtype, bytes. A large one may be cut into flat chunks.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import torch
from torch import Tensor

from models.legacy.names import to_torch

_ARRAY = 1  # extension type
_CHUNKED = "__msgpack_chunked_array__"
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 1000


def read_flax_msgpack(path: Path) -> dict[str, Tensor]:
    """All weights of a file or of a shard, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: damaged, or something in it is not an array of floating-point numbers.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        # The tree itself has no lists: whoever claims a long one wants memory.
        tree = msgpack.unpackb(view, ext_hook=_read_array, max_array_len=0)
    if not isinstance(tree, dict):
        raise ValueError(f"expected a map of weights; found {type(tree).__name__}")
    return to_torch(_flatten(tree))


def _read_array(extension: int, payload: bytes) -> Tensor:
    if extension != _ARRAY:
        raise ValueError(f"expected arrays, extension type {_ARRAY}; found extension type {extension}")
    content = msgpack.unpackb(payload, max_array_len=_MOST_DIMENSIONS)
    match content:
        case [list(shape), str(dtype), bytes(raw)] if dtype in _DTYPES and all(type(n) is int and n > 0 for n in shape):
            if math.prod(shape) * _DTYPES[dtype].itemsize != len(raw):
                raise ValueError(f"expected as many bytes as {shape} of {dtype} need; found {len(raw)}")
            return torch.frombuffer(bytearray(raw), dtype=_DTYPES[dtype]).reshape(shape)
        case [_, str(dtype), _] if dtype not in _DTYPES:
            raise ValueError(f"expected an array of {', '.join(_DTYPES)}; found {dtype[:20]!r}")
    raise ValueError("expected an array's shape, dtype and bytes; found something else")


def _flatten(tree: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a tree, their names with slashes."""
    pending: list[tuple[str, Any]] = list(tree.items())
    while pending:
        name, node = pending.pop()
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"expected names of at most {_LONGEST_NAME} characters; found one of {len(name)}")
        if isinstance(node, Tensor):
            yield name, node
        elif not isinstance(node, dict):
            raise ValueError(f"{name}: expected an array; found {type(node).__name__}")
        elif _CHUNKED in node:
            yield name, _join(name, node)
        else:
            pending.extend((f"{name}/{key}", child) for key, child in node.items())


def _join(name: str, chunked: dict[str, Any]) -> Tensor:
    """One array from its chunks; lists are maps from "0", "1", ... here."""
    try:
        shape, chunks = ([items[str(i)] for i in range(len(items))] for items in (chunked["shape"], chunked["chunks"]))
        return torch.cat(chunks).reshape(shape)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name}: expected the chunks of an array; found a part missing or misshapen") from error
