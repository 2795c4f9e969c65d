"""`model.ckpt.index` and its data files: the format of TensorFlow before Keras models.

The index is a sorted string table, as LevelDB has them: blocks of entries, each entry's key without what it shares with
the one before, and a last block that says where the others are. Its values are protocol buffers that say where in which
data file each array is. Of both formats this reads what is needed to find arrays.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.legacy.names import to_torch_from_graph

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_BLOCK_TRAILER_BYTES = 5  # kind of compression, checksum
_LONGEST_NAME = 1000  # bytes
_DTYPES = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}  # numbers of types.proto


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an array lies in the data files."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    shard: int
    offset: int  # bytes
    size: int  # bytes


def read_tensorflow_bundle(index: Path) -> dict[str, Tensor]:
    """All floating-point arrays of a checkpoint, on the CPU; the optimiser's are left out.

    Args:
        index: The file that ends with `.index`; its data files lie beside it.

    Raises:
        OSError: a data file is not there.
        ValueError: damaged, compressed, or cut into slices.
    """
    return to_torch_from_graph(_read_arrays(index))


def _read_arrays(index: Path) -> Iterator[tuple[str, Tensor]]:
    places, num_shards = _read_index(index.read_bytes())
    for shard in sorted({place.shard for place in places.values()}):
        path = index.with_suffix(f".data-{shard:05d}-of-{num_shards:05d}")
        ours = {name: place for name, place in places.items() if place.shard == shard}
        size_bytes = sum(place.size for place in ours.values())
        if size_bytes > path.stat().st_size:
            raise ValueError(f"{path.name}: expected at least {size_bytes} bytes; found {path.stat().st_size}")
        with path.open("rb") as file:
            for name, place in ours.items():
                file.seek(place.offset)
                raw = bytearray(file.read(place.size))
                if len(raw) != place.size:
                    raise ValueError(f"{path.name}: {name}: expected {place.size} bytes; found {len(raw)}")
                yield name, torch.frombuffer(raw, dtype=place.dtype).reshape(place.shape)


def _read_index(table: bytes) -> tuple[dict[str, _Place], int]:
    """Each array's place, and the number of data files."""
    if len(table) < _FOOTER_BYTES or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ValueError("expected the index of a TensorFlow checkpoint; found another format")
    footer = _Reader(table[-_FOOTER_BYTES:-8])
    footer.next(), footer.next()  # the handle of a block that is always empty
    places: dict[str, _Place] = {}
    num_shards = 1
    for _, block in _read_block(table, footer):
        for key, value in _read_block(table, _Reader(block)):
            fields = _read_message(value)
            if not key:  # the header
                num_shards = _number(fields, 1)
            elif (dtype := _DTYPES.get(_number(fields, 1))) is not None:
                places[key.decode()] = _read_place(key.decode(), dtype, fields)
    return places, num_shards


def _read_place(name: str, dtype: torch.dtype, fields: dict[int, list[int | bytes]]) -> _Place:
    if 7 in fields:
        raise ValueError(f"{name}: expected an array in one piece; found one that is cut into slices")
    shapes = [_read_message(shape) for shape in fields.get(2, []) if isinstance(shape, bytes)]
    dims = [_read_message(dim) for shape in shapes for dim in shape.get(2, []) if isinstance(dim, bytes)]
    place = _Place(
        dtype=dtype,
        shape=tuple(_number(dim, 1) for dim in dims),
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
    )
    if place.size == 0 or math.prod(place.shape) * dtype.itemsize != place.size:
        raise ValueError(f"{name}: expected as many bytes as {list(place.shape)} of {dtype} need; found {place.size}")
    return place


def _read_block(table: bytes, handle: _Reader) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block at a handle: its offset and its size."""
    offset, size = handle.next(), handle.next()
    if offset + size + _BLOCK_TRAILER_BYTES > len(table) or size < 4:
        raise ValueError("damaged: a block of the index lies outside the file")
    if table[offset + size] != 0:
        raise ValueError("expected an index without compression; found a compressed one")
    block = table[offset : offset + size]
    num_restarts = struct.unpack("<I", block[-4:])[0]
    entries = _Reader(block[: max(0, size - 4 - 4 * num_restarts)])
    key = b""
    while not entries.at_end:
        shared, added, value_size = entries.next(), entries.next(), entries.next()
        key = key[:shared] + entries.take(added)
        if len(key) > _LONGEST_NAME:
            raise ValueError(f"expected names of at most {_LONGEST_NAME} bytes; found one of {len(key)}")
        yield key, entries.take(value_size)


def _read_message(message: bytes) -> dict[int, list[int | bytes]]:
    """The values of a protocol buffer by the numbers of their fields."""
    fields: dict[int, list[int | bytes]] = {}
    rest = _Reader(message)
    while not rest.at_end:
        number, kind = divmod(rest.next(), 8)
        match kind:
            case 0:
                value: int | bytes = rest.next()
            case 1 | 5:
                value = rest.take(8 if kind == 1 else 4)
            case 2:
                value = rest.take(rest.next())
            case _:
                raise ValueError(f"damaged: an entry of the index has a field of unknown kind {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    """A field that is a number; one that is not there is 0."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"damaged: expected a number in field {field} of an entry of the index")
    return value


class _Reader:
    """Reads bytes from the front: numbers of variable length, and runs of bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._content)

    def take(self, size: int) -> bytes:
        taken = self._content[self._position : self._position + size]
        if len(taken) != size:
            raise ValueError("damaged: the index ends in the middle of an entry")
        self._position += size
        return taken

    def next(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("damaged: a number in the index is too long")
