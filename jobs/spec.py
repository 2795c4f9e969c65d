"""The job spec: everything that decides what a run does, from YAML or from Python, checked before anything starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError, model_validator

from jobs.explain import did_you_mean, found, message, problems
from jobs.overrides import override
from jobs.registry import AnyTask
from pipeline.errors import SpecError
from pipeline.options import InputOptions, LimitOptions, ModelOptions, Options, OutputOptions, WorkerOptions

REDACTED = "***"
_UNNAMED = "job spec"  # what messages call a spec that is in no file
# Texts among the storage options that are no secrets. Whatever is not named here is not shown.
_PUBLIC_STORAGE_KEYS = frozenset({"account_name", "endpoint_url", "profile", "project", "protocol", "region_name"})

_STORED = ("input", "output", "model")  # the sections with a URL and options for its storage

_TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)


class JobSpec(Options):
    """One job: text from `input` through `model` doing `task`, to `output`."""

    name: str
    input: InputOptions
    output: OutputOptions
    model: ModelOptions
    task: AnyTask
    workers: WorkerOptions = WorkerOptions()
    limits: LimitOptions = LimitOptions()

    def __init__(self, **values: Any) -> None:
        with _in_words(_UNNAMED, type(self).model_json_schema):
            super().__init__(**values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], overrides: Iterable[str] = ()) -> Self:
        """The spec with these keys.

        Args:
            values: as in the YAML file.
            overrides: `a.b=value` each, to be put in place of what `values` say; the value is YAML.

        Raises:
            SpecError: names every key that is missing, unknown or has a wrong value, or a wrong override.
        """
        values = _text_keys(values, source=_UNNAMED)
        for setting in overrides:
            override(values, setting)
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """The spec in a YAML file.

        Args:
            path: a local file.
            overrides: `a.b=value` each, to be put in place of what the file says; the value is YAML too.

        Raises:
            SpecError: the file cannot be read, is not YAML or not a job spec; or an override is not of that form.
        """
        values = _text_keys(_read_yaml(Path(path)), source=str(path))
        for setting in overrides:
            override(values, setting)
        try:
            return cls(**values)
        except SpecError as error:
            raise SpecError(str(path) + str(error).removeprefix(_UNNAMED)) from None

    def identity(self) -> dict[str, Any]:
        """What decides a row's result and its columns, as JSON values: an output folder holds one such job.

        Where input and model lie is not part of it, nor is how the work is done.
        """
        return {
            "text": self.input.text,
            "text_pair": self.input.text_pair,
            "keep": list(self.output.keep),
            "dtype": self.model.dtype,
            "task": self.task.model_dump(mode="json"),
        }

    def redacted(self) -> dict[str, Any]:
        """The spec as plain values fit for JSON and YAML, with the secrets among the storage options left out."""
        values = self.model_dump(mode="json")
        for section in _STORED:
            values[section]["storage"] = _redact(values[section]["storage"])
        return values

    def kept(self) -> str:
        """The spec as YAML that `from_kept` reads anywhere: without any secret, and with absolute local paths."""
        values = self.redacted()
        for section in _STORED:
            values[section]["storage"] = _without_redacted(values[section]["storage"])
        values["input"]["url"] = [_anywhere(url) for url in values["input"]["url"]]
        # A later retry removes nothing, whatever this run was allowed to.
        values["output"] |= {"url": _anywhere(values["output"]["url"]), "prune": False, "overwrite": False}
        if Path(values["model"]["path"]).exists() or "://" in values["model"]["path"]:  # else a Hub id
            values["model"]["path"] = _anywhere(values["model"]["path"])
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_kept(cls, text: str, *, output_url: str, overrides: Iterable[str] = ()) -> Self:
        """The spec that `kept` wrote into the output folder which now is at `output_url`.

        Raises:
            SpecError: the text is damaged, or an override is wrong.
        """
        try:
            values = _text_keys(yaml.safe_load(text), source=f"the job kept in {output_url}")
        except yaml.YAMLError:
            raise SpecError(f"the job kept in {output_url} is not valid YAML: the file is damaged") from None
        for setting in (f"output.url={json.dumps(output_url)}", *overrides):
            override(values, setting)
        return cls(**values)

    def to_yaml(self) -> str:
        """The spec as YAML, every option written out; secrets are left out, and have to be put in again by hand."""
        return yaml.safe_dump(self.redacted(), sort_keys=False, allow_unicode=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_redacted(cls, values: Any) -> Any:
        for section in _STORED:
            options = values.get(section)
            if isinstance(options, Mapping) and _holds_redacted(options.get("storage")):
                raise ValueError(
                    f"{section}.storage: a secret was left out ({REDACTED}) when this spec was written; put it in, or "
                    "remove the line and leave credentials to the environment"
                )
        return values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.workers.max < self.workers.min:
            raise ValueError(
                f"workers.max: expected at least workers.min, {self.workers.min}, found {self.workers.max}"
            )
        if self.input.text_pair is not None and not self.task.takes_pairs:
            raise ValueError(f"input.text_pair: {self.task.type} takes single texts, not pairs")
        return self


def parse_task(values: Mapping[str, Any]) -> AnyTask:
    """The `task:` part of a spec alone.

    Raises:
        SpecError: names every key that is missing, unknown or has a wrong value.
    """
    with _in_words("task", _TASK.json_schema):
        return _TASK.validate_python(dict(values))


Section = TypeVar("Section", bound=Options)


def parse_section(kind: type[Section], name: str, **values: Any) -> Section:
    """Another part of a spec alone.

    Raises:
        SpecError: as of `parse_task`.
    """
    with _in_words(name, kind.model_json_schema):
        return kind(**values)


@contextmanager
def _in_words(source: str, schema: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Says what pydantic finds wrong with `source` in a `SpecError`; the JSON schema is made only then."""
    try:
        yield
    except ValidationError as error:
        # Without the cause: pydantic's message quotes the values, secrets among them.
        raise SpecError(message(problems(error.errors(), schema()), source=source)) from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe loading that refuses a key that is there twice: the second would win, and nobody would know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in first_lines and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key.value} is there twice, first in line {first_lines[key.value]}",
                    key.start_mark,
                )
            first_lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.name, (file.name for file in path.parent.glob("*.y*ml")))
        raise SpecError(f"{path}: no such file{near or '; expected a job spec in YAML'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as text: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        # Without the lines that yaml quotes, which may hold secrets.
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{path}{place}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from None


def _text_keys(values: Any, *, source: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        keys = ", ".join(JobSpec.model_fields)
        raise SpecError(f"{source}: expected a mapping with the keys {keys}, found {found(values)}")
    return {str(key): value for key, value in values.items()}


def _redact(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: inner if _is_public(key, inner) else _redact(inner) for key, inner in value.items()}
        case Sequence() if not isinstance(value, str):
            return [_redact(inner) for inner in value]
        case bool() | int() | float() | None:
            return value
    return REDACTED


def _without_redacted(value: Any) -> Any:
    match value:
        case Mapping():
            kept = {key: _without_redacted(inner) for key, inner in value.items() if inner != REDACTED}
            return {key: inner for key, inner in kept.items() if inner != {}}
        case list():
            return [_without_redacted(inner) for inner in value if inner != REDACTED]
    return value


def _anywhere(url: str) -> str:
    """A URL as it is, a local path made absolute."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def _is_public(key: Any, value: Any) -> bool:
    return key in _PUBLIC_STORAGE_KEYS and isinstance(value, str) and "@" not in value  # no user:password@host


def _holds_redacted(value: Any) -> bool:
    match value:
        case Mapping():
            return any(_holds_redacted(inner) for inner in value.values())
        case Sequence() if not isinstance(value, str):
            return any(_holds_redacted(inner) for inner in value)
    return bool(value == REDACTED)
