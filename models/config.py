"""Model configurations: what `config.json` says, as attributes.

A family's config lists its fields as class attributes with their defaults. The constructor takes any of them by
keyword; what it does not know it keeps as an attribute all the same and writes back, so that a file survives a
round trip through us whatever else its author put there.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from models import hub
from models.errors import ConfigError
from models.wording import suggest

CONFIG_NAME = "config.json"
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class PretrainedConfig:
    """The fields that any model has, and reading and writing them.

    Args:
        **fields: Any field of the class, `num_labels`, `torch_dtype` (older files' word for `dtype`), or fields
            unknown to us.

    Raises:
        ConfigError: two fields contradict each other, or one has a value that means nothing.
    """

    architectures_by_type: ClassVar[dict[str, str]] = {}
    """Every `model_type` that the class reads, and how the names of its architectures begin."""

    model_type: str = ""

    # What a forward pass returns where its arguments do not say.
    return_dict: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False

    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    chunk_size_feed_forward: int = 0  # tokens that go through a feed-forward block at once; 0 means all

    bos_token_id: int | None = None
    pad_token_id: int | None = None
    eos_token_id: int | None = None

    architectures: list[str] | None = None
    problem_type: str | None = None  # one of PROBLEM_TYPES; None: the first labels decide
    id2label: dict[int, str]
    label2id: dict[str, int] | None = None

    def __init__(self, **fields: Any) -> None:
        self._check_model_type(fields)
        dtype = fields.pop("dtype", None) or fields.pop("torch_dtype", None)
        fields.pop("torch_dtype", None)
        self.dtype: torch.dtype | None = None if dtype is None else parse_dtype(dtype)

        num_labels = fields.pop("num_labels", None)
        id2label = fields.pop("id2label", None)
        if id2label is None:
            fields.pop("label2id", None)  # names without their order say nothing
            self.num_labels = 2 if num_labels is None else num_labels
        else:
            self.id2label = _parse_labels(id2label)

        problem_type = fields.get("problem_type")
        if problem_type is not None and problem_type not in PROBLEM_TYPES:
            raise ConfigError(f"problem_type: expected one of {', '.join(PROBLEM_TYPES)}; found {problem_type!r}")
        for name, value in fields.items():
            setattr(self, name, value)

    def _check_model_type(self, fields: dict[str, Any]) -> None:
        found = fields.get("model_type")
        if found is not None and self.architectures_by_type and found not in self.architectures_by_type:
            readable = ", ".join(self.architectures_by_type)
            raise ConfigError(
                f"model_type: {type(self).__name__} reads {readable}; found {found!r}. "
                "load_config and load_model choose the class by this field"
            )

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, num_labels: int) -> None:
        if num_labels != len(getattr(self, "id2label", ())):
            self.id2label = {index: f"LABEL_{index}" for index in range(num_labels)}
            self.label2id = {name: index for index, name in self.id2label.items()}

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """Older name of `dtype`."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, dtype: str | torch.dtype | None) -> None:
        self.dtype = None if dtype is None else parse_dtype(dtype)

    @property
    def use_return_dict(self) -> bool:
        return self.return_dict

    def update(self, overrides: dict[str, Any]) -> None:
        """Sets fields that exist, as a user's overrides of a file do.

        Raises:
            ConfigError: there is no such field.
        """
        for name, value in overrides.items():
            if not hasattr(self, name):
                closest = suggest(name, [*self.to_dict(), "num_labels"])
                raise ConfigError(f"{type(self).__name__} has no field {name!r}{closest}")
            if name == "dtype":
                name = "torch_dtype"  # the setter parses
            elif name == "id2label":
                value = _parse_labels(value)
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value; the dtype as its name."""
        fields = {name: getattr(self, name) for name in self._declared()}
        fields |= {name: value for name, value in vars(self).items() if not name.startswith("_")}
        fields["dtype"] = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return copy.deepcopy(fields)

    def to_diff_dict(self) -> dict[str, Any]:
        """What is written: the family's own fields, and of those that any model has the ones that are not default."""
        default = PretrainedConfig().to_dict()
        common = set(default)
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in common or name == "model_type" or value != default[name]
        }

    @classmethod
    def _declared(cls) -> list[str]:
        names: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if not str(annotation).startswith("ClassVar"):
                    names[name] = None
        return list(names)

    def to_json_string(self) -> str:
        return json.dumps(self.to_diff_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Writes `config.json` into a folder, which is made if need be."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_dict(cls, fields: dict[str, Any], **overrides: Any) -> Self:
        """Builds the config of a file's fields, with some of them overridden."""
        config = cls(**fields)
        config.update(overrides)
        return config

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *, source: hub.Source | None = None, **kwargs: Any
    ) -> Self:
        """Reads `config.json` of a folder or a Hub repository.

        Args:
            pretrained_model_name_or_path: A folder, or the id of a repository on the Hub.
            source: The same with revision and token settled; `from_pretrained` of a model passes it on.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`; the rest overrides
                fields.

        Raises:
            ModelNotFound: there is no such folder or repository, or no `config.json` in it.
            ConfigError: the file is no JSON object, or a field is wrong.
        """
        if source is None:
            source, kwargs = hub.Source.split(pretrained_model_name_or_path, kwargs)
        return cls.from_dict(read_config(source), **kwargs)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, PretrainedConfig) and self.to_dict() == other.to_dict()

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


class EncoderConfig(PretrainedConfig):
    """The fields that the encoder families share."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072  # width of the feed-forward block
    hidden_act: str | Callable[[torch.Tensor], torch.Tensor] = "gelu"  # a name of models.activations, or a function
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02  # standard deviation of new weights
    layer_norm_eps: float = 1e-12
    use_cache: bool = True  # in decoder mode only

    @property
    def max_tokens(self) -> int:
        """Length in tokens of the longest sequence that the model can take, special tokens included."""
        return self.max_position_embeddings

    @property
    def head_dropout_prob(self) -> float:
        """Dropout in heads: `classifier_dropout` in families that have it, unless it is None."""
        dropout: float | None = getattr(self, "classifier_dropout", None)
        return self.hidden_dropout_prob if dropout is None else dropout


def read_config(source: hub.Source) -> dict[str, Any]:
    """The fields of a source's `config.json`.

    Raises:
        ModelNotFound: there is no such file.
        ConfigError: it is no JSON object.
    """
    path = source.require(CONFIG_NAME)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON, found a syntax error: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: expected a JSON object, found a {type(fields).__name__}")
    return fields


def _parse_labels(id2label: Any) -> dict[int, str]:
    """Labels by index; JSON has the indices as strings."""
    try:
        return {int(index): label for index, label in id2label.items()}
    except (AttributeError, ValueError) as error:
        raise ConfigError(f'id2label: expected an object like {{"0": "NO", "1": "YES"}}; found {id2label!r}') from error


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The torch dtype of a name such as "bfloat16".

    Raises:
        ConfigError: there is no such floating-point dtype.
    """
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: expected float32, bfloat16, float16 or float64; found {dtype!r}")
    return found
