"""Which columns of the input a job reads, and whether they are there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pyarrow as pa

from pipeline.errors import ColumnError
from pipeline.formats.source import is_text


def select_columns(found: pa.Schema, *, text: str, text_pair: str | None, keep: Sequence[str], where: str) -> pa.Schema:
    """The columns that a job reads, each once: text, text pair, kept ones; with the types that hold for all its files.

    Args:
        found: all columns of the job's first file.
        where: that file, for messages.

    Raises:
        ColumnError: a column is missing, or a text column holds no text.
    """
    texts = [text] if text_pair is None else [text, text_pair]
    columns = {}
    for name in dict.fromkeys([*texts, *keep]):
        if found.names.count(name) != 1:
            raise ColumnError(_missing(name, found, where, "output.keep" if name not in texts else _field(name, text)))
        kind = found.field(name).type
        if name in texts:
            if not (is_text(kind) or pa.types.is_null(kind)):
                strings = [column.name for column in found if is_text(column.type)]
                raise ColumnError(
                    f"input.{_field(name, text)}: the column {name!r} of {where} is {kind}, not text. "
                    f"Columns of text: {', '.join(strings) or 'none'}."
                )
            kind = pa.large_string() if pa.types.is_large_string(_plain(kind)) else pa.string()
        columns[name] = kind
    return pa.schema(list(columns.items()))


def _field(name: str, text: str) -> str:
    return "text" if name == text else "text_pair"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _missing(name: str, found: pa.Schema, where: str, field: str) -> str:
    field = field if "." in field else f"input.{field}"
    if name in found.names:
        return f"{field}: {where} has more than one column {name!r}; rename all but one."
    near = difflib.get_close_matches(name, found.names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{field}: no column {name!r} in {where}; it has: {', '.join(found.names) or 'none'}.{hint}"
