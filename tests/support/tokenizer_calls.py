"""The same calls on our tokenizers and on those of transformers, with results as plain values that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """A method of a tokenizer with its arguments, and what is asked of the encoding that it returns."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    then: tuple[tuple[Any, ...], ...] = ()  # (method of the encoding, argument, ...)


def call(*args: Any, then: Sequence[tuple[Any, ...]] = (), **kwargs: Any) -> Call:
    """The tokenizer called as a function."""
    return Call("__call__", args, kwargs, tuple(then))


def run_calls(tokenizer: Any, calls: Sequence[Call]) -> list[Any]:
    """The result of each call; of one that raises, that it raised."""
    return [_result(tokenizer, call) for call in calls]


def reference_calls(class_name: str, folder: Path, arguments: Mapping[str, Any], calls: Sequence[Call]) -> list[Any]:
    """The same under transformers, of whichever version is importable."""
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    tokenizer = getattr(transformers, class_name).from_pretrained(str(folder), **arguments)
    return run_calls(tokenizer, calls)


def reference_save(class_name: str, folder: Path, target: Path, arguments: Mapping[str, Any]) -> list[str]:
    """Loads and saves under transformers; the names of the files written."""
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    getattr(transformers, class_name).from_pretrained(str(folder), **arguments).save_pretrained(str(target))
    return sorted(path.name for path in target.iterdir())


def _result(tokenizer: Any, call: Call) -> Any:
    result = _attempt(tokenizer, call.method, call.args, call.kwargs)
    if not call.then:
        return _plain(result)
    return _plain(result), [_plain(_attempt(result, name, arguments, {})) for name, *arguments in call.then]


def _attempt(owner: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        member = getattr(owner, name)
        return member(*args, **kwargs) if callable(member) else member
    except Exception:
        return "raised"
    except BaseException as error:  # a panic of the Rust library is no Exception
        if type(error).__name__ != "PanicException":
            raise
        return "raised"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if hasattr(value, "tolist"):
        return (tuple(value.shape), str(value.dtype), value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if type(value).__name__ == "AddedToken":
        return (value.content, value.lstrip, value.rstrip, value.single_word, value.normalized, value.special)
    return value
