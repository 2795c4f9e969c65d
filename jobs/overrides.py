"""`--set a.b=c`: single values put over those of a job file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import yaml

from jobs.explain import found
from pipeline.errors import SpecError


def override(values: dict[str, Any], setting: str) -> None:
    """Puts `a.b=value` in place of what nested `values` say; the value is YAML.

    Raises:
        SpecError: it is not of that form, or goes through something that is not a mapping.
    """
    path, equals, text = setting.partition("=")  # messages show the path only: the value may be a secret
    *sections, key = path.strip().split(".")
    if not equals or not all((*sections, key)):
        raise SpecError(f"--set {path}: expected a dotted key and a value, as in workers.max=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    for depth, section in enumerate(sections):
        inner = values.get(section)
        if inner is not None and not isinstance(inner, Mapping):
            raise SpecError(f"--set {path}: {'.'.join(sections[: depth + 1])} is {found(inner)}, not a mapping")
        values[section] = dict(inner or {})
        values = values[section]
    values[key] = value


def storage_options(overrides: Iterable[str] | None, section: Literal["input", "output"]) -> dict[str, Any]:
    """What `--set` says about a section's storage; other settings are passed over."""
    values: dict[str, Any] = {}
    for setting in overrides or ():
        if setting.startswith(f"{section}.storage."):
            override(values, setting)
    options: dict[str, Any] = values.get(section, {}).get("storage", {})
    return options
