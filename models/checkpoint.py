"""Weights on disk: reading them under whatever names they have, filling every parameter exactly once, writing them.

Files are `model.safetensors`, the same in shards with an index, or the older `pytorch_model.bin`, in shards or not;
where neither is there, those of TensorFlow and Flax. The first that is there counts.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import legacy
from models.errors import CheckpointError, ModelNotFound
from models.hub import Source
from models.wording import first_ten

logger = logging.getLogger(__name__)

SAFETENSORS = "model.safetensors"
INDEX_SUFFIX = ".index.json"
WEIGHT_FILES: Mapping[str, tuple[str, ...]] = {
    "pt": (SAFETENSORS, "pytorch_model.bin"),
    "tf": ("tf_model.h5", SAFETENSORS, "model.ckpt.index", "bert_model.ckpt.index"),
    "flax": ("flax_model.msgpack", SAFETENSORS),
}
"""Each framework's files, by the name that safetensors files have for it in their metadata."""

COMMON_SUFFIXES: Mapping[str, str | None] = {
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
    # Counting up from 0, and zeros: computed.
    "embeddings.position_ids": None,
    "embeddings.token_type_ids": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointNames:
    """A family's table of checkpoint names, where they differ from those of the modules."""

    suffixes: Mapping[str, str | None] = field(default_factory=lambda: COMMON_SUFFIXES)
    """End of a name in the file to end of ours; None: dropped on purpose."""

    preferred: Mapping[str, str] = field(default_factory=dict)
    """A parameter with several names to the one that counts where a file has more than one."""

    computed: tuple[str, ...] = ()
    """Parts of names: parameters whose initial value is the right one, so that a file may lack them."""

    def is_computed(self, name: str) -> bool:
        return any(part in name for part in self.computed)

    def ours(self, name: str) -> str | None:
        """Our name for a file's name; None if it is dropped on purpose."""
        for theirs, ours in self.suffixes.items():
            if name.endswith(theirs):
                return None if ours is None else name.removesuffix(theirs) + ours
        return name


@dataclass(slots=True, kw_only=True)
class Matching:
    """Which of a file's tensors fills which parameter, and what is left over on either side."""

    filled: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """Name, shape in the file, shape in the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a checkpoint's files hold, on the CPU; names are the files', or torch's for those of other frameworks."""

    tensors: dict[str, Tensor]
    implied: dict[str, Tensor] = field(default_factory=dict)
    """What the framework computed with although no file has it under such a name."""


def read_weights(source: Source, *, framework: str | None = None) -> Weights:
    """All tensors of a source's weights.

    Args:
        framework: Read only files of "pt", "tf" or "flax".

    Raises:
        ModelNotFound: no weights, or a shard that the index names is missing.
        CheckpointError: a file cannot be read.
    """
    accepted = WEIGHT_FILES if framework is None else {framework: WEIGHT_FILES[framework]}
    filenames = list(dict.fromkeys(filename for names in accepted.values() for filename in names))
    for filename in filenames:
        index = None
        path = source.find(filename)
        if path is None and not filename.endswith(".index"):
            index = source.find(filename + INDEX_SUFFIX)
        if index is not None:
            shard_of = _read_index(index)
            path = source.require(min(shard_of.values()))
        if path is None or (maker := _framework_of(path)) not in accepted:
            continue
        if path.suffix == ".index":
            source.find(path.with_suffix(".data-00000-of-00001").name)  # the Hub gives only what it is asked for
        tensors = _read_file(path) if index is None else _read_shards(source, index, shard_of)
        return Weights(tensors=tensors, implied=legacy.output_matrix(tensors) if maker == "tf" else {})
    expected = f"one of {', '.join(filenames)}, whole or in shards with {INDEX_SUFFIX}"
    wanted = {"tf": "weights of TensorFlow", "flax": "weights of Flax"}.get(framework or "", "weights")
    raise ModelNotFound(f"{source.name}: expected {wanted}, {expected}; {source.describe_files()}")


def _framework_of(path: Path) -> str:
    if path.suffix != ".safetensors":
        return {".h5": "tf", ".index": "tf", ".msgpack": "flax"}.get(path.suffix, "pt")
    try:
        with safe_open(path, framework="pt") as file:
            written_by = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return str(written_by) if written_by in WEIGHT_FILES else "pt"


def _read_index(index: Path) -> dict[str, str]:
    """Tensor to shard."""
    try:
        shard_of = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: expected a JSON object with a weight_map: {error}") from error
    if not shard_of or not all(isinstance(shard, str) and Path(shard).name == shard for shard in shard_of.values()):
        raise CheckpointError(f"{index}: expected a weight_map from names to files; found {str(shard_of)[:100]}")
    return shard_of


def _read_shards(source: Source, index: Path, shard_of: Mapping[str, str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        tensors |= _read_file(source.require(shard))
    absent = [name for name in shard_of if legacy.index_names(name).isdisjoint(tensors)]
    if absent:
        raise CheckpointError(f"{index}: its shards lack {first_ten(absent)}; download or save the model again")
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        match path.suffix:
            case ".safetensors":
                tensors = load_file(path)
                return tensors if _framework_of(path) == "pt" else legacy.to_torch(tensors.items())
            case ".h5":
                return legacy.read_tensorflow_h5(path)
            case ".index":
                return legacy.read_tensorflow_bundle(path)
            case ".msgpack":
                return legacy.read_flax_msgpack(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path}: expected a dictionary of tensors")
    return tensors


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return CheckpointError(f"{path}: the weights cannot be read ({reason}); download or save them again")


def match(
    weights: Weights,
    parameters: Mapping[str, Tensor],
    *,
    aliases: Mapping[str, str],
    prefix: str,
    names: CheckpointNames,
) -> Matching:
    """Finds for each parameter of a model the tensor of a file that fills it.

    Args:
        weights: The file's, by its names.
        parameters: The model's, by ours, each once.
        aliases: Further names of the same parameters, to the one in `parameters`.
        prefix: What the encoder is called inside models with a head; files have names with or without it.
    """
    result = Matching()
    candidates: dict[str, dict[str, Tensor]] = {}  # parameter -> name in the file -> tensor
    for theirs, tensor in {**weights.implied, **weights.tensors}.items():
        ours = names.ours(theirs)
        if ours is None:
            continue
        known = [
            name
            for name in (ours, f"{prefix}.{ours}", ours.removeprefix(f"{prefix}."))
            if name in parameters or name in aliases
        ]
        if not known:
            if theirs in weights.tensors:
                result.unexpected.append(theirs)
            continue
        candidates.setdefault(aliases.get(known[0], known[0]), {})[known[0]] = tensor

    for name, parameter in parameters.items():
        found = candidates.get(name)
        if found is None:
            if not names.is_computed(name):
                result.missing.append(name)
            continue
        best = names.preferred.get(name, name)
        tensor = found.get(best, found.get(name, next(iter(found.values()))))
        if tensor.shape == parameter.shape:
            result.filled[name] = tensor
        else:
            result.mismatched.append((name, tuple(tensor.shape), tuple(parameter.shape)))
    result.missing.sort()
    result.unexpected.sort()
    return result


def check(matching: Matching, *, where: str, prefix: str, ignore_mismatched_sizes: bool) -> None:
    """Refuses a match that leaves the encoder incomplete, and logs what a user should know of the rest.

    A part that the file lacks altogether - a head, the pooler, cross-attention - is new by intent and will be
    initialised. A part of which the file has some is damaged or misnamed.

    Raises:
        CheckpointError: parameters are missing or misshapen.
    """
    has_head = any(name.startswith(f"{prefix}.") for name in (*matching.filled, *matching.missing))
    encoder = f"{prefix}." if has_head else ""
    present_parts = {_optional_part(name, encoder) for name in matching.filled}
    damaged = [
        name for name in matching.missing if (part := _optional_part(name, encoder)) is None or part in present_parts
    ]
    problems = []
    if damaged:
        problems.append(f"missing: {first_ten(damaged)}")
        if matching.unexpected:
            problems.append(f"not ours: {first_ten(matching.unexpected)}")
    if matching.mismatched and not ignore_mismatched_sizes:
        shapes = [
            f"{name} ({list(theirs)} in the file, {list(ours)} in the model)"
            for name, theirs, ours in matching.mismatched
        ]
        problems.append(f"misshapen: {first_ten(shapes)}")
    if problems:
        error = CheckpointError(f"{where}: the weights do not fit the model. " + ". ".join(problems))
        if (
            matching.mismatched and not ignore_mismatched_sizes
        ):  # a note: for who calls from Python, and not for who types a command
            error.add_note("For a new head pass ignore_mismatched_sizes=True.")
        raise error

    new = [*matching.missing, *(name for name, _, _ in matching.mismatched)]
    if new:
        logger.warning("%s: initialised at random, train before use: %s", where, first_ten(new))
    if matching.unexpected:
        logger.info("%s: not used by this model: %s", where, first_ten(matching.unexpected))


def _optional_part(name: str, encoder: str) -> str | None:
    """The part of a model, one that a checkpoint may lack, to which a parameter belongs; None: the encoder itself.

    Args:
        encoder: How names of the encoder's parameters begin.
    """
    for part in ("pooler", "crossattention", "distance_embedding"):
        if f".{part}." in f".{name}":
            return part
    if name.startswith(encoder):
        return None
    first, second, *_ = name.split(".")
    return f"{first}.{second}" if first == "cls" else first  # BERT keeps several heads there


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, *, max_shard_size: int | str) -> None:
    """Writes `model.safetensors`, or shards of at most a size and their index.

    Args:
        max_shard_size: In bytes, or as "500MB", "5GB"; a tensor that is larger gets a shard of its own.
    """
    limit_bytes = _parse_size(max_shard_size)
    shards: list[dict[str, Tensor]] = [{}]
    shard_bytes = 0
    for name, tensor in tensors.items():
        if shards[-1] and shard_bytes + tensor.nbytes > limit_bytes:
            shards.append({})
            shard_bytes = 0
        # A copy: tensors of one file must not share memory.
        shards[-1][name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        shard_bytes += tensor.nbytes

    for stale in [*folder.glob("model*.safetensors"), folder / (SAFETENSORS + INDEX_SUFFIX)]:
        stale.unlink(missing_ok=True)
    if len(shards) == 1:
        _save(shards[0], folder / SAFETENSORS)
        return
    shard_of: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        filename = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / filename)
        shard_of |= dict.fromkeys(shard, filename)
    total_bytes = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total_bytes}, "weight_map": shard_of}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / (SAFETENSORS + INDEX_SUFFIX)).write_text(text, encoding="utf-8")


def _parse_size(size: int | str) -> int:
    if isinstance(size, int):
        return size
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    parts = re.fullmatch(r"(\d+)\s*([KMG]I?B)", size.upper())
    if parts is None:
        raise ValueError(f"max_shard_size: expected a number of bytes, or one like '500MB' or '5GB'; found {size!r}")
    return int(parts[1]) * units[parts[2]]


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    # The library makes files that only their owner may read; these get the mode of any other new file.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
