"""What TensorFlow and Flax call their arrays, and what torch modules call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_LAST_PARTS = {
    "kernel": "weight",
    "gamma": "weight",
    "scale": "weight",
    "embeddings": "weight",
    "embedding": "weight",
    "beta": "bias",
    "output_weights": "weight",
    "output_bias": "bias",
}
_OPTIMISER = re.compile(r"adam_[mv]|AdamWeightDecayOptimizer(_\d+)?|global_step")


def to_torch(arrays: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The arrays of a Keras or Flax model under torch's names; matrices of linear layers have the output first."""
    return {torch_name(name): _oriented(name, array) for name, array in arrays}


def to_torch_from_graph(arrays: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The same for the variables of the original BERT code and its descendants, which had no classes of models."""
    named = ((torch_name_from_graph(name), _oriented(name, array)) for name, array in arrays)
    return {name: array for name, array in named if name is not None}


def _oriented(name: str, array: Tensor) -> Tensor:
    is_matrix = name.removesuffix(":0").endswith("kernel") and array.dim() == 2
    return array.T.contiguous() if is_matrix else array


def torch_name(name: str) -> str:
    """Torch's name for one of Keras, such as `mlm___cls/predictions/bias:0`, or of Flax, with slashes or dots.

    `A___B` is a layer that Keras calls A and torch B, `layer_._0` the first layer of a list.
    """
    parts = re.split(r"[/.]", re.sub(r"[^/]*___", "", name.removesuffix(":0")).replace("_._", "/"))
    return ".".join([*parts[:-1], _LAST_PARTS.get(parts[-1], parts[-1])])


def torch_name_from_graph(name: str) -> str | None:
    """Torch's name, without the encoder's, for one such as `bert/encoder/layer_0/output/dense/kernel`.

    None for what only the optimiser needs.
    """
    parts = name.split("/")
    if any(_OPTIMISER.fullmatch(part) for part in parts):
        return None
    if parts[-1].endswith("_embeddings"):  # a variable of the module, not of a layer in it
        parts.append("weight")
    if parts[0] in {"bert", "roformer"}:
        parts = parts[1:]
    return torch_name(re.sub(r"\blayer_(\d+)\b", r"layer/\1", "/".join(parts)))


def index_names(name: str) -> set[str]:
    """What an array that the index of a sharded checkpoint names may be called once it is read.

    Indexes of Keras models name it with the model's name in front, which the shards leave out.
    """
    return {name, torch_name(name), torch_name(name.partition("/")[2])}


def output_matrix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The last matrix of a TensorFlow language model, under torch's names; empty for other models.

    It is the input embeddings whatever the config says, and no file has it. This is a copy: an untied model trains it
    apart.
    """
    words = [tensor for name, tensor in tensors.items() if name.endswith("embeddings.word_embeddings.weight")]
    heads = [head for head in ("lm_head", "cls.predictions") if f"{head}.bias" in tensors]
    return {f"{head}.decoder.weight": words[0].clone() for head in heads if words}
