"""What the parity tests ask of transformers; runs under v4 in its own process, or under v5 in this one.

Nothing here imports our models: the folder with config and weights is all that the two sides share.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

Outputs = dict[str, Any]  # tensors, and tuples of them


def create(folder: str, architecture: str, config: dict[str, Any], *, seed: int = 0, **save_options: Any) -> None:
    """Saves a model with random weights, of the size that trained ones have, biases and norms included."""
    import transformers

    model_class = getattr(transformers, architecture)
    model = model_class(model_class.config_class(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + ("Norm.weight" in name))
    model.save_pretrained(folder, **save_options)


def forward(folder: str, architecture: str, inputs: dict[str, Any], **load_options: Any) -> Outputs:
    """What a saved model gives; the cache as tuples."""
    with torch.no_grad():
        return as_plain(_load(folder, architecture, load_options)(**inputs))


def gradients(folder: str, architecture: str, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Each parameter's gradient of the loss; for a base model, of the sum of all it gives."""
    return gradients_of(_load(folder, architecture, {}), inputs)


def decode(folder: str, architecture: str, steps: list[dict[str, Any]]) -> list[Outputs]:
    """What a decoder gives when each step is passed the cache that the one before returned."""
    return decode_with(_load(folder, architecture, {}), steps)


def fresh_parameters(architecture: str, config: dict[str, Any]) -> dict[str, Tensor]:
    """The parameters of a new model: random, but for those that are computed."""
    import transformers

    model_class = getattr(transformers, architecture)
    return model_class(model_class.config_class(**config)).state_dict()


def loaded_parameters(folder: str, architecture: str) -> dict[str, Tensor]:
    return _load(folder, architecture, {}).state_dict()


def fields(folder: str, architecture: str, inputs: dict[str, Any]) -> list[Any]:
    return fields_of(_load(folder, architecture, {}), inputs)


def config_fields(config_class: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config, under v4."""
    import transformers

    config = getattr(transformers, config_class)(**fields)
    return {**config.to_dict(), "num_labels": config.num_labels}


def _load(folder: str, architecture: str, options: dict[str, Any]) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    # The attention that has probabilities, and averages over all keys where a query sees none.
    options = {"attn_implementation": "eager"} | options
    return getattr(transformers, architecture).from_pretrained(folder, **options).eval()


# -- the same for either side ----------------------------------------------------------------------------------


def gradients_of(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
    output = model(**inputs)
    loss = output["loss"] if "loss" in output else sum(value.sum() for value in output.values())
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@torch.no_grad()
def decode_with(model: Any, steps: list[dict[str, Any]]) -> list[Outputs]:
    outputs = []
    past = None
    for step in steps:
        output = model(**step, past_key_values=past, use_cache=True)
        past = output.past_key_values
        outputs.append(as_plain(output))
    return outputs


def as_plain(output: Any) -> Outputs:
    plain = dict(output.items())
    if "past_key_values" in plain:
        layers = cache_layers(plain["past_key_values"])
        plain["past_key_values"] = tuple(tuple(states.clone() for states in layer) for layer in layers)
    # v5 has an empty tuple where there is no cross-attention.
    return {name: value for name, value in plain.items() if not (isinstance(value, tuple) and not value)}


def cache_layers(cache: Any) -> list[tuple[Tensor, ...]]:
    """Keys and values of each layer, those of cross-attention included."""
    if hasattr(cache, "self_attention_cache"):
        both = (cache.self_attention_cache.layers, cache.cross_attention_cache.layers)
        pairs = zip_longest(*([(layer.keys, layer.values) for layer in layers] for layers in both), fillvalue=())
        return [tuple(states for states in (*own, *cross) if states is not None) for own, cross in pairs]
    return [tuple(states for states in cache[index] if states is not None) for index in range(len(cache))]


@torch.no_grad()
def fields_of(model: Any, inputs: dict[str, Any]) -> list[Any]:
    """What is in an output, in order: keys, or the shapes and lengths of a tuple."""
    output = model(**inputs)
    if not isinstance(output, tuple):
        return list(output.keys())
    return [tuple(value.shape) if isinstance(value, Tensor) else len(value) for value in output]
