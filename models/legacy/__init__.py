"""Weights that TensorFlow and Flax wrote, read without either of them.

Each reader gives a file's arrays as tensors, under the names and in the layout that torch modules have. It trusts
nothing in the file: an array that claims more bytes than the file has is refused, and so is whatever is not a plain
array. A file that is damaged or of another kind is a `ValueError`.
"""

from models.legacy.flax_msgpack import read_flax_msgpack
from models.legacy.names import index_names, output_matrix, to_torch
from models.legacy.tensorflow_bundle import read_tensorflow_bundle
from models.legacy.tensorflow_h5 import read_tensorflow_h5

__all__ = [
    "index_names",
    "output_matrix",
    "read_flax_msgpack",
    "read_tensorflow_bundle",
    "read_tensorflow_h5",
    "to_torch",
]
