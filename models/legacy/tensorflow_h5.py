"""`tf_model.h5`: weights as Keras writes them, one HDF5 dataset for each.

In a whole file a weight lies at `<layer>/<model>/<weight>`, in a shard at `<weight>`. The layers' attributes list what
the tree shows anyway, so they are not read.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from models.legacy.names import to_torch


def read_tensorflow_h5(path: Path) -> dict[str, Tensor]:
    """All weights of a file or of a shard, on the CPU.

    Raises:
        OSError: not an HDF5 file, or one that is cut short.
        ValueError: damaged, or something in it is not a plain array of floating-point numbers.
    """
    try:
        # Reading needs no lock, and file systems on a network often have none.
        with h5py.File(path, "r", locking=False) as file:
            datasets = _find_datasets(file)
            size_bytes = sum(dataset.nbytes for dataset in datasets.values())
            if size_bytes > path.stat().st_size:
                raise ValueError(
                    f"expected at most the file's {path.stat().st_size} bytes of arrays; found {size_bytes}"
                )
            return to_torch((name, _read(dataset)) for name, dataset in datasets.items())
    except (KeyError, TypeError, RuntimeError, SystemError) as error:  # what h5py makes of damage
        raise ValueError(f"damaged: {error.__cause__ or error}") from error


def _find_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Datasets by the names of their weights, without the model's name.

    A language model's head holds the input embeddings, too: where a weight lies in several layers, the one that has
    the layer's own name counts. (They are the same values.)
    """
    links: list[tuple[str, object]] = []
    file.visititems_links(lambda path, link: links.append((path, link)))
    datasets: dict[str, h5py.Dataset] = {}
    for path, link in links:
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: expected an array or a group; found a link to another place")
        dataset = file[path]
        if not isinstance(dataset, h5py.Dataset):
            continue
        _check(path, dataset)
        layer = path.partition("/")[0]
        name = path.split("/", maxsplit=2)[-1] if _is_layer_of_whole_file(file[layer]) else path
        if name not in datasets or name.startswith(f"{layer}/"):
            datasets[name] = dataset
    return datasets


def _is_layer_of_whole_file(layer: h5py.Group) -> bool:
    # Lists that are too long for one attribute are in weight_names0, weight_names1 ...
    return any(attribute.startswith("weight_names") for attribute in layer.attrs)


def _check(path: str, dataset: h5py.Dataset) -> None:
    """Refuses what would be read from other files, or is larger in memory than in the file."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{path}: expected an array; found a reference to another file")
    if dataset.chunks is not None:
        raise ValueError(f"{path}: expected an array as Keras writes it; found one that is chunked or compressed")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{path}: expected floating-point numbers; found {dataset.dtype}")
    if dataset.id.get_storage_size() != dataset.nbytes:
        raise ValueError(f"{path}: expected {dataset.nbytes} bytes; found {dataset.id.get_storage_size()}")


def _read(dataset: h5py.Dataset) -> Tensor:
    native = dataset.dtype.newbyteorder("=")
    return torch.from_numpy(np.asarray(dataset[()], dtype=native))
