"""The parts of a job spec that the pipeline itself consumes; `jobs.spec.JobSpec` is made of them.

Every field is a key of the YAML file, with the same name and default.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

_HTTP_QUERY = re.compile(r"(?:^|::)https?://[^?]*\?(.*)", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(
    r"(?:.*[-_])?(?:sig|password|secret|api[-_]?key|access[-_]?key)|.*signature|key"
    r"|(?!.*(?:page|next|continuation)[-_]?token$).*token",
    re.IGNORECASE | re.DOTALL,
)


def _without_secret(url: str) -> str:
    """URLs are shown, and kept in plans and records: they may hold no secret."""
    # abfs://container@account is a place
    if re.search(r"(?:^|::)(?:[a-z0-9+]+://[^/@:]*:[^/@]*@|https?://[^/@]*@)", url, re.IGNORECASE):
        raise ValueError("a URL may hold no user name or password: put them under `storage`, or into the environment")
    query = _HTTP_QUERY.search(url)  # elsewhere ? is a glob character
    names = [name for name, _ in parse_qsl(query[1])] if query else []
    if found := next(filter(_SECRET.fullmatch, names), None):
        raise ValueError(
            f"a URL may hold no signature, token or other secret ({found}): give the URL without it, and credentials "
            "under `storage` or in the environment"
        )
    return url


Count = Annotated[int, Field(ge=1)]
Url = Annotated[str, AfterValidator(_without_secret)]


class Options(BaseModel):
    """Frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputOptions(Options):
    """Where the text comes from."""

    url: tuple[Url, ...]  # files, folders or globs on any fsspec URL, `hf://datasets/ID` for a Hub data set
    format: Literal["auto", "parquet", "arrow", "jsonl", "csv", "text", "datasets"] = "auto"
    fingerprint: Literal["auto", "content"] = "auto"  # auto: etag, else size and mtime; content: reads all to plan
    text: str = "text"  # the column that holds the text; plain text files have one column, `text`
    text_pair: str | None = None  # a second column, for models that take pairs
    storage: dict[str, Any] = Field(default_factory=dict, repr=False)  # for fsspec: endpoint_url, key, secret ...
    unit_bytes: Count | None = None  # input text in a unit; default: what a device does in one to three minutes

    @field_validator("url", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (str(value),) if isinstance(value, (str, Path)) else value


class OutputOptions(Options):
    """Where the results go."""

    url: Url
    keep: tuple[str, ...] = ()  # input columns to copy to the output
    compression: Literal["zstd", "snappy", "gzip", "lz4", "none"] = "zstd"
    prune: bool = False  # remove the rows of input files that were planned and are no longer there
    overwrite: bool = False  # replace what another job has left in the folder, rather than refuse it
    storage: dict[str, Any] = Field(default_factory=dict, repr=False)


class ModelOptions(Options):
    """Which model, and in which precision."""

    path: Url  # a folder, an fsspec URL, or a Hub id
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    storage: dict[str, Any] = Field(default_factory=dict, repr=False)


class WorkerOptions(Options):
    """How many replicas, and what each one gets."""

    min: Count = 1
    max: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0  # per worker; 0 runs on CPU
    cpus: Annotated[float, Field(gt=0)] = 1  # per worker
    token_budget: Count | None = None  # most tokens in one forward pass; default: by device


class LimitOptions(Options):
    """How much may fail before the run ends with exit code 3."""

    bad_rows: Annotated[float, Field(ge=0)] = 0.01  # rows with an error: a share if below 1, else a count
    bad_units: Annotated[int, Field(ge=0)] = 0  # units in quarantine
    attempts: Count = 3  # tries at a unit before it is cut in the search for a bad row, or goes to quarantine
    stall_s: Annotated[float, Field(gt=0)] = 600  # without a step, with units in hand: a worker hangs, and is ended
    load_s: Annotated[float, Field(gt=0)] = 1800  # to load the model, once its process runs; then it hangs as well
