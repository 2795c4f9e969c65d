"""What is wrong with a spec, in words for the person who wrote it.

pydantic finds the problems; what was expected in each place is read from the JSON schema, so that every option is
described once, by its type.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from pydantic_core import ErrorDetails

Schema = Mapping[str, Any]

_MAX_SHOWN = 60  # characters of a wrong value


def problems(errors: Iterable[ErrorDetails], schema: Schema) -> list[str]:
    """One line for each place that is wrong: its dotted path, what was expected there, what was found.

    Args:
        errors: what pydantic found.
        schema: the JSON schema of what was validated.
    """
    lines: dict[str, str] = {}  # by path: pydantic reports a union once for each of its members
    for error in errors:
        path, text = _explain(error, schema)
        lines.setdefault(path, f"{path}: {text}" if path else text)
    return list(lines.values())


def message(lines: Sequence[str], *, source: str) -> str:
    """The problems found in `source` as one message."""
    if len(lines) == 1:
        return f"{source}: {lines[0]}"
    return "\n".join([f"{source}: {len(lines)} problems", *(f"  {line}" for line in lines)])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def found(value: Any, *, secret: bool = False) -> str:
    """A value as a person would write it; of a secret one only what kind of value it is."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if secret:
        return "text" if isinstance(value, str) else type(value).__name__
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except TypeError:
        shown = type(value).__name__
    shown = re.sub(r"://[^/@]*@", "://***@", shown)  # a password in a URL
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"


def _explain(error: ErrorDetails, root: Schema) -> tuple[str, str]:
    names, schema = _walk(error["loc"], root)
    path = ".".join(names)
    match error["type"]:
        case "extra_forbidden":
            key = str(error["loc"][-1])
            return ".".join([*names, key]), _unknown_key(key, names, schema, root)
        case "missing":
            return path, f"missing; expected {_expected(schema, root)}"
        case "union_tag_not_found" | "union_tag_invalid":
            return _explain_kind(names, error["input"], schema)
        case "value_error":  # one of our own validators, which says it all
            return path, str(error["ctx"]["error"])
    text = f"expected {_expected(schema, root)}, found {found(error['input'], secret='storage' in names)}"
    if isinstance(error["input"], str):
        text += did_you_mean(error["input"], map(str, schema.get("enum", ())))
    elif error["type"] == "string_type" and isinstance(error["input"], int | float | date):
        text += "; put it in quotes"  # YAML takes some texts for numbers or dates
    return path, text


def _explain_kind(names: list[str], value: Any, schema: Schema) -> tuple[str, str]:
    """A mapping whose `type` is missing, or unknown."""
    key = schema["discriminator"]["propertyName"]
    kinds = list(schema["discriminator"]["mapping"])
    path = ".".join([*names, key])
    if key not in value:
        return path, f"missing; expected one of {', '.join(kinds)}"
    wrong = value[key]
    return path, f"expected one of {', '.join(kinds)}, found {found(wrong)}{did_you_mean(str(wrong), kinds)}"


def _unknown_key(key: str, names: list[str], schema: Schema, root: Schema) -> str:
    siblings = list(schema.get("properties", ()))
    suggestion = did_you_mean(key, siblings)
    if not suggestion:
        elsewhere = [
            f"{section}.{key}"
            for section, inner in root.get("properties", {}).items()
            if [section] != names and key in _resolve(inner, root).get("properties", ())
        ]
        suggestion = f"; did you mean {elsewhere[0]}?" if elsewhere else ""
    return f"unknown key{suggestion}" if suggestion else f"unknown key; known here: {', '.join(siblings)}"


def _walk(loc: Sequence[int | str], root: Schema) -> tuple[list[str], Schema]:
    """Follows a location of pydantic's, which also names the members of unions, to its dotted path and its schema."""
    names: list[str] = []
    schema = _resolve(root, root)
    for step in loc:
        if step in schema.get("properties", ()):
            names.append(str(step))
            schema = _resolve(schema["properties"][step], root)
        elif step in schema.get("discriminator", {}).get("mapping", ()):
            schema = _resolve({"$ref": schema["discriminator"]["mapping"][step]}, root)
        elif isinstance(step, int) and "items" in schema:
            names[-1] += f"[{step}]"
            schema = _resolve(schema["items"], root)
        else:
            break
    return names, schema


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _expected(schema: Schema, root: Schema) -> str:
    schema = _resolve(schema, root)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        *others, last = (_expected(member, root) for member in schema["anyOf"])
        return f"{', '.join(others)} or {last}"
    match schema.get("type"):
        case "integer":
            return "a whole number" + _bounds(schema)
        case "number":
            return "a number" + _bounds(schema)
        case "boolean":
            return "true or false"
        case "string":
            return "text"
        case "null":
            return "null"
        case "array":
            return "a list of texts" if schema.get("items") == {"type": "string"} else "a list"
    keys = [*schema.get("properties", ()), *(["type, ..."] if "discriminator" in schema else ())]
    return f"a mapping with {', '.join(keys)}" if keys else "a mapping"


def _bounds(schema: Schema) -> str:
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{word} {schema[name]:g}" for name, word in words.items() if name in schema]
    return " " + " and ".join(limits) if limits else ""
