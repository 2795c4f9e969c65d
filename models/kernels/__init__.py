"""A stack of transformer blocks for packed batches in C++, compiled when first wanted and kept for later runs.

Legend: T tokens, N sequences, H hidden size, A heads, D head size, I intermediate size; O outputs, K inputs of a layer.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "encoder.cpp"
_COMPILERS = ("c++", "g++", "clang++")
# The instructions by name, not those of this machine: a cache may be shared by several.
_FLAGS = (
    "-O3 -std=c++17 -shared -fPIC -fopenmp -mfma -mavx512f -mavx512bw -mavx512vl -mavx512bf16 -mamx-tile -mamx-bf16"
)
_COMPILE_S = 120.0
_TENSORS_A_LAYER = 12  # which `Layer` in encoder.cpp points to


class _Shape(ctypes.Structure):
    _fields_ = (
        ("num_layers", ctypes.c_int64),
        ("num_heads", ctypes.c_int64),
        ("head_size", ctypes.c_int64),
        ("intermediate_size", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("boundaries", ctypes.c_void_p),
        ("num_sequences", ctypes.c_int64),
        ("sine", ctypes.c_void_p),
        ("cosine", ctypes.c_void_p),
        ("num_rotated", ctypes.c_int64),
        ("causal", ctypes.c_int64),
        ("only_first", ctypes.c_int64),
    )


class EncoderKernel:
    """The compiled kernel. It needs a CPU with AMX, bfloat16, and sizes (H, D, I) that are multiples of 32."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._encode = library.encode_packed
        self._encode.restype = ctypes.c_bool
        self._encode.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int]

    def encode(
        self,
        states: Tensor,
        cu_seqlens: Tensor,
        layers: Sequence[tuple[Tensor, ...]],
        *,
        num_heads: int,
        intermediate_size: int,
        epsilon: float,
        causal: bool,
        rotation: tuple[Tensor, Tensor] | None = None,
        rotates_values: bool = False,
        first_tokens: bool = False,
    ) -> Tensor:
        """The states [T, H] after the layers.

        Args:
            states: [T, H] bfloat16.
            cu_seqlens: [N + 1] int32.
            layers: Each the 12 tensors of `Layer` in encoder.cpp, in its order: linear layers as `lay_out` gives them,
                norms in float32.
            epsilon: Of the norms.
            rotation: Sine and cosine, each broadcasts to [T, 1, D / 2].
            first_tokens: Gives those of each sequence's first token alone, [N, H]; no sequence is empty.

        Raises:
            ValueError: states, boundaries or weights are not what the kernel takes, which would read beyond them.
            MemoryError: there is none left.
        """
        if states.dtype != torch.bfloat16 or states.device.type != "cpu":
            raise ValueError(f"expected states in bfloat16 on the CPU, found {states.dtype} on {states.device}")
        cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
        if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != len(states) or bool((cu_seqlens.diff() < 0).any()):
            raise ValueError(f"expected boundaries of sequences from 0 to {len(states)}, found other ones")
        for layer in layers:
            if len(layer) != _TENSORS_A_LAYER:
                raise ValueError(f"expected {_TENSORS_A_LAYER} tensors of a layer, found {len(layer)}")
        states = states.contiguous()
        num_sequences = len(cu_seqlens) - 1
        out = states.new_empty(num_sequences if first_tokens else len(states), states.shape[1])
        if not len(states):
            return out
        pointers = [tensor.data_ptr() for layer in layers for tensor in layer]
        shape = _Shape(len(layers), num_heads, states.shape[1] // num_heads, intermediate_size, epsilon)
        batch = _Batch(cu_seqlens.data_ptr(), num_sequences, causal=causal, only_first=first_tokens)
        if rotation is not None:
            sine, cosine = (part.expand(len(states), 1, -1).float().contiguous() for part in rotation)
            batch.sine, batch.cosine = sine.data_ptr(), cosine.data_ptr()
            batch.num_rotated = 3 if rotates_values else 2
        is_done = self._encode(
            (ctypes.c_void_p * len(pointers))(*pointers),
            ctypes.byref(shape),
            ctypes.byref(batch),
            states.data_ptr(),
            out.data_ptr(),
            torch.get_num_threads(),
        )
        if not is_done:
            raise MemoryError
        return out


def lay_out(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """A layer's weights in the order in which the kernel's tiles read them (products.hpp), and its bias in float32."""
    outputs, inputs = layer.weight.shape
    panels = layer.weight.detach().reshape(outputs // 32, 2, 16, inputs // 32, 16, 2).permute(0, 3, 1, 4, 2, 5)
    return panels.contiguous(), layer.bias.detach().float()


@functools.cache
def encoder_kernel() -> EncoderKernel | None:
    """The kernel, or None where the CPU or a compiler for it is missing, and torch must do it."""
    has_instructions = torch.cpu._is_amx_tile_supported() and torch.cpu._is_avx512_bf16_supported()
    if not (has_instructions and torch.cpu._init_amx()):
        return None
    try:
        return EncoderKernel(ctypes.CDLL(str(_library())))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home folder
        said = getattr(error, "stderr", None) or b""
        logger.warning(
            "the model runs in torch, which is slower: its kernel was not compiled or not loaded: %s %s",
            error,
            said[-500:].decode(errors="replace"),
        )
        return None


def _library() -> Path:
    """The compiled source, from the cache if it is there.

    Raises:
        OSError: there is no compiler, or nowhere to write.
        subprocess.SubprocessError: the compiler fails or takes too long.
    """
    source = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]pp")))
    libc = "-".join(platform.libc_ver()).encode()  # a home folder may be shared by machines that differ in it
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardmill"
    library = folder / f"encoder-{hashlib.sha256(source + _FLAGS.encode() + libc).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise FileNotFoundError(f"expected one of {', '.join(_COMPILERS)} on the PATH, found none")
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as staged:
        made = Path(staged) / library.name
        command = [compiler, *_FLAGS.split(), str(SOURCE), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_S)
        made.replace(library)  # whole or not at all: other workers look for it too
    logger.info("compiled %s in %.1f s, kept in %s", SOURCE.name, time.perf_counter() - begun, folder)
    return library
