"""Attention for packed batches in C++, compiled when first wanted and kept for later runs."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("packed_attention.cpp")
_COMPILERS = ("c++", "g++", "clang++")
# The instructions by name, not those of this machine: a cache may be shared by several.
_FLAGS = (
    "-O3 -std=c++17 -shared -fPIC -fopenmp -mfma -mavx512f -mavx512bw -mavx512vl -mavx512bf16 -mamx-tile -mamx-bf16"
)
_COMPILE_S = 120.0


class PackedAttention:
    """The compiled kernel. It needs a CPU with AMX, bfloat16 and a head size that is a multiple of 32."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._attend = library.attend_packed
        self._attend.restype = None
        self._rotate = library.rotate_packed
        self._rotate.restype = None

    @staticmethod
    def takes(head_size: int, dtype: torch.dtype) -> bool:
        return dtype == torch.bfloat16 and head_size % 32 == 0

    def attend(self, query_key_value: Tensor, cu_seqlens: Tensor, *, causal: bool) -> Tensor:
        """Attention within each sequence.

        Args:
            query_key_value: [T, 3, A, D], contiguous.
            cu_seqlens: [N + 1] int32.

        Returns:
            The contexts [T, A, D].
        """
        num_tokens, _, num_heads, head_size = query_key_value.shape
        context = query_key_value.new_empty((num_tokens, num_heads, head_size))
        self._attend(
            _address(query_key_value),
            _address(cu_seqlens),
            ctypes.c_int64(cu_seqlens.shape[0] - 1),
            ctypes.c_int64(num_heads),
            ctypes.c_int64(head_size),
            ctypes.c_int(causal),
            ctypes.c_int(torch.get_num_threads()),
            _address(context),
        )
        return context

    def rotate(self, query_key_value: Tensor, num_turned: int, sine: Tensor, cosine: Tensor) -> None:
        """Turns the first two (queries and keys) or three of [T, 3, A, D] in place; sine and cosine [T, 1, D / 2]."""
        num_tokens, _, num_heads, head_size = query_key_value.shape
        sine, cosine = sine.float().contiguous(), cosine.float().contiguous()
        self._rotate(
            _address(query_key_value),
            ctypes.c_int64(num_tokens),
            ctypes.c_int64(query_key_value.stride(0)),
            ctypes.c_int64(num_turned * num_heads),
            ctypes.c_int64(head_size),
            _address(sine),
            _address(cosine),
            ctypes.c_int(torch.get_num_threads()),
        )


@functools.cache
def packed_attention() -> PackedAttention | None:
    """The kernel, or None where the CPU or a compiler for it is missing; torch's own attention does as well."""
    if not (torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()):
        return None
    try:
        return PackedAttention(ctypes.CDLL(str(_library())))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        logger.warning("attention runs in torch, which is slower: its kernel did not compile: %s", error)
        return None


def _library() -> Path:
    """The compiled source, from the cache if it is there.

    Raises:
        OSError: there is no compiler, or nowhere to write.
        subprocess.SubprocessError: the compiler fails or takes too long.
    """
    source = SOURCE.read_bytes()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardmill"
    library = folder / f"packed_attention-{hashlib.sha256(source + _FLAGS.encode()).hexdigest()[:16]}.so"
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


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
