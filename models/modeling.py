"""What every model has besides its forward pass: loading, saving, initialisation, embeddings."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from models import checkpoint
from models.checkpoint import CheckpointNames, Weights
from models.config import EncoderConfig, parse_dtype
from models.hub import Source
from models.outputs import ModelOutput


class PreTrainedModel(nn.Module):
    """A torch module with a config, whose parameters have the names of Hugging Face checkpoints.

    Constructing one gives random weights; `from_pretrained` reads them.
    """

    config_class: ClassVar[type[EncoderConfig]]
    base_model_prefix: ClassVar[str]
    """Name of the encoder inside models with a head."""
    checkpoint_names: ClassVar[CheckpointNames] = CheckpointNames()
    positional: ClassVar[tuple[str, ...]] = ()
    """The order in which callers of the family give arguments by position; empty: that of the forward pass."""
    construction_arguments: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments of the constructor that `from_pretrained` passes on."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.new_parameters: tuple[str, ...] = ()
        """Parameters that the checkpoint lacked: they are random until the model is trained."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The forward pass."""
        if arguments and self.positional:
            if len(arguments) > len(self.positional):
                raise TypeError(f"expected at most {len(self.positional)} arguments; found {len(arguments)}")
            given = dict(zip(self.positional, arguments, strict=False))
            if given.keys() & named.keys():
                raise TypeError(
                    f"given twice, by position and by name: {', '.join(sorted(given.keys() & named.keys()))}"
                )
            return super().__call__(**given, **named)
        return super().__call__(*arguments, **named)

    def post_init(self) -> None:
        """Ties and initialises the parameters; every constructor ends with it.

        The encoder of a model with a head has been through it already.
        """
        self.tie_weights()
        names = [name for name, _ in self.named_parameters()]
        self.initialise([name for name in names if not name.startswith(f"{self.base_model_prefix}.")])

    # -- loading and saving ------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: EncoderConfig | str | os.PathLike[str] | None = None,
        dtype: torch.dtype | str | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        from_tf: bool = False,
        from_flax: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Reads a model from a folder or the Hub, in eval mode, on the CPU.

        Args:
            pretrained_model_name_or_path: A folder, or the id of a repository on the Hub.
            config: Used instead of the one next to the weights.
            dtype: Of the parameters: float32 unless given; "auto" is the config's, else the file's.
            ignore_mismatched_sizes: Initialise parameters whose shape differs from the file's.
            output_loading_info: Return the model and a dictionary with `missing_keys`, `unexpected_keys`,
                `mismatched_keys` (name, shape in the file, shape in the model) and `error_msgs` (empty).
            from_tf: Read what TensorFlow wrote, even if there are other weights; without them it is read anyway.
            from_flax: The same for Flax.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`; arguments of the
                constructor; the rest overrides fields of the config.

        Raises:
            ModelNotFound: no such folder, repository or file.
            ConfigError: the config is of another family, or a field is wrong or unknown.
            CheckpointError: weights cannot be read or do not fit.
        """
        if from_tf and from_flax:
            raise ValueError("expected one of from_tf and from_flax; found both")
        source, kwargs = Source.split(pretrained_model_name_or_path, kwargs)
        arguments = {name: kwargs.pop(name) for name in cls.construction_arguments if name in kwargs}
        dtype = kwargs.pop("torch_dtype", dtype)
        if config is None:
            config = cls.config_class.from_pretrained(source.name, source=source, **kwargs)
        elif isinstance(config, str | os.PathLike):
            config = cls.config_class.from_pretrained(config, **kwargs)
        else:
            config = copy.deepcopy(config)
            config.update(kwargs)

        framework = "tf" if from_tf else "flax" if from_flax else None
        weights = checkpoint.read_weights(source, framework=framework)
        if arguments.get("add_pooling_layer", True) is None:
            arguments["add_pooling_layer"] = any("pooler." in name for name in weights.tensors)
        with torch.device("meta"):
            model = cls(config, **arguments)
        matching = model._fill(weights, source.name, dtype, ignore_mismatched_sizes)
        model.eval()
        if not output_loading_info:
            return model
        info = {
            "missing_keys": matching.missing,
            "unexpected_keys": matching.unexpected,
            "mismatched_keys": matching.mismatched,
            "error_msgs": [],
        }
        return model, info  # type: ignore[return-value]  # the documented exception

    def _fill(
        self, weights: Weights, where: str, dtype: torch.dtype | str | None, ignore_mismatched_sizes: bool
    ) -> checkpoint.Matching:
        """Gives every parameter, which have shapes only, its value: the file's or an initial one."""
        aliases = self._aliases()
        parameters = {name: tensor for name, tensor in self.state_dict().items() if name not in aliases}
        matching = checkpoint.match(
            weights, parameters, aliases=aliases, prefix=self.base_model_prefix, names=self.checkpoint_names
        )
        checkpoint.check(
            matching,
            where=where,
            prefix=self.base_model_prefix,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        resolved = self._resolve_dtype(dtype, matching.filled)
        self.config.dtype = resolved
        # A module may insist on a dtype of its own.
        default = torch.get_default_dtype()
        dtypes = {name: resolved if empty.dtype == default else empty.dtype for name, empty in parameters.items()}
        values = {name: tensor.to(dtypes[name]) for name, tensor in matching.filled.items()}
        new = [name for name in parameters if name not in values]
        values |= {name: torch.empty(parameters[name].shape, dtype=dtypes[name]) for name in new}
        self.load_state_dict(values, strict=False, assign=True)
        self.tie_weights()
        self.initialise(new)
        self.new_parameters = tuple(name for name in new if not self.checkpoint_names.is_computed(name))
        return matching

    def _resolve_dtype(self, dtype: torch.dtype | str | None, tensors: dict[str, Tensor]) -> torch.dtype:
        if dtype is None:
            return torch.get_default_dtype()
        if dtype != "auto":
            return parse_dtype(dtype)
        return self.config.dtype or next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, max_shard_size: int | str = "5GB") -> None:
        """Writes `config.json` and the weights as safetensors, as Hugging Face transformers reads them.

        Args:
            max_shard_size: In bytes, or as "500MB", "5GB"; a larger model is written as several files and an index.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(self.config)
        config.architectures = [self.architecture]
        config.dtype = self.dtype
        config.save_pretrained(folder)
        # Readers tie a bias of their own accord only where they tie the weights.
        left_out = self._aliases() if config.tie_word_embeddings else {}
        tensors = {name: tensor for name, tensor in self.state_dict().items() if name not in left_out}
        checkpoint.write_tensors(tensors, folder, max_shard_size=max_shard_size)

    @property
    def architecture(self) -> str:
        """The name of this class in the family that the config names: XLMRobertaModel, not RobertaModel."""
        names = self.config.architectures_by_type
        return type(self).__name__.replace(next(iter(names.values())), names[self.config.model_type], 1)

    def _aliases(self) -> dict[str, str]:
        """Further names of parameters that several modules share, to the first one."""
        first: dict[int, str] = {}
        aliases = {}
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if first.setdefault(id(parameter), name) != name:
                aliases[name] = first[id(parameter)]
        return aliases

    # -- initialisation ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, names: list[str]) -> None:
        """Gives parameters their initial values.

        Weights of linear layers and embeddings are normal with the config's `initializer_range`, biases and padding
        rows zero, norms one and zero; modules of any other kind know themselves.
        """
        others = {}
        for name in names:
            path, _, attribute = name.rpartition(".")
            module = self.get_submodule(path)
            parameter = cast(Tensor, getattr(module, attribute))
            if attribute == "bias":
                parameter.zero_()
            elif isinstance(module, nn.LayerNorm):
                parameter.fill_(1.0)
            elif isinstance(module, nn.Linear | nn.Embedding):
                parameter.normal_(0.0, self.config.initializer_range)
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    parameter[module.padding_idx].zero_()
            else:
                others[path] = module
        for module in others.values():
            cast(Any, module).reset_parameters()

    def tie_weights(self) -> None:
        """Makes the output matrix the input embeddings, where the model has one and the config says so."""
        output = self.get_output_embeddings()
        if output is not None and self.config.tie_word_embeddings:
            output.weight = self.get_input_embeddings().weight

    # -- embeddings --------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> PreTrainedModel:
        """The encoder; itself where there is no head."""
        return cast(PreTrainedModel, getattr(self, self.base_model_prefix, self))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.base_model.get_input_embeddings()

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        self.base_model.set_input_embeddings(embeddings)

    def get_output_embeddings(self) -> nn.Linear | None:
        """The layer from hidden states to the vocabulary, in models that have one."""
        return None

    def set_output_embeddings(self, embeddings: nn.Linear) -> None:
        raise ValueError(f"{type(self).__name__} has no output embeddings")

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Embedding:
        """Changes the size of the vocabulary; rows are cut off, or added with initial values, at the end.

        Args:
            new_num_tokens: New size; None: the present one.
            pad_to_multiple_of: Round the size up.

        Returns:
            The new input embeddings.
        """
        old = self.get_input_embeddings()
        size = old.num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        if size == old.num_embeddings:
            return old
        new = nn.Embedding(size, old.embedding_dim, old.padding_idx, device=old.weight.device, dtype=old.weight.dtype)
        new.weight = self._resized(old.weight, size)
        new.weight.requires_grad_(old.weight.requires_grad)
        self.set_input_embeddings(new)
        output = self.get_output_embeddings()
        if output is not None:
            resized = nn.Linear(output.in_features, size, device=output.weight.device, dtype=output.weight.dtype)
            resized.weight = self._resized(output.weight, size)
            resized.bias = self._resized(output.bias, size)
            self.set_output_embeddings(resized)
        self.config.vocab_size = size
        self.tie_weights()
        return new

    @torch.no_grad()
    def _resized(self, rows: Tensor, size: int) -> nn.Parameter:
        """The first rows of a matrix, or of a bias, and new ones."""
        resized = rows.new_zeros((size, *rows.shape[1:]))
        if rows.dim() > 1:
            resized.normal_(0.0, self.config.initializer_range)
        kept = min(size, len(rows))
        resized[:kept] = rows[:kept]
        return nn.Parameter(resized)

    # -- the rest ----------------------------------------------------------------------------------------------

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, shared ones once."""
        embeddings = {
            id(parameter)
            for module in self.modules()
            if exclude_embeddings and isinstance(module, nn.Embedding)
            for parameter in module.parameters()
        }
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in embeddings and (parameter.requires_grad or not only_trainable)
        )

    def gradient_checkpointing_enable(self) -> None:
        """Recomputes each block in the backward pass instead of keeping what is inside it."""
        for stack in self._checkpointing_stacks():
            stack.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        for stack in self._checkpointing_stacks():
            stack.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(stack.gradient_checkpointing for stack in self._checkpointing_stacks())

    def _checkpointing_stacks(self) -> Iterator[Any]:
        return (module for module in self.modules() if hasattr(module, "gradient_checkpointing"))

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _finish(self, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple[Any, ...]:
        """The output as the caller wants it: with names, or as a tuple."""
        return output if self._choose(return_dict, "return_dict") else output.to_tuple()

    def _choose(self, argument: bool | None, field: str) -> bool:
        """An argument of a forward pass, or where it is None what the config says."""
        return bool(getattr(self.config, field)) if argument is None else argument
