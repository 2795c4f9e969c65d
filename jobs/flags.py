"""Command line options, and the key of the job file that each is the twin of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.overrides import storage_options as given_for_storage
from pipeline.errors import SpecError

# By parameter name of the commands `classify`, `embed` and `ner`.
TWINS = {
    "model": "model.path",
    "revision": "model.revision",
    "dtype": "model.dtype",
    "input": "input.url",
    "format": "input.format",
    "fingerprint": "input.fingerprint",
    "text_column": "input.text",
    "text_pair": "input.text_pair",
    "output": "output.url",
    "keep": "output.keep",
    "compression": "output.compression",
    "prune": "output.prune",
    "overwrite": "output.overwrite",
    "max_workers": "workers.max",
    "gpus": "workers.gpus",
    "cpus": "workers.cpus",
    "name": "name",
    "max_length": "task.max_length",
    "long_text": "task.long_text",
    "top_k": "task.top_k",
    "threshold": "task.threshold",
    "function_to_apply": "task.function_to_apply",
    "pooling": "task.pooling",
    "normalize": "task.normalize",
    "prefix": "task.prefix",
    "dimensions": "task.dimensions",
    "embedding_dtype": "task.dtype",
    "aggregation": "task.aggregation",
    "ignore_labels": "task.ignore_labels",
    "stride": "task.stride",
}


def spec_values(kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A job spec's values from a command's options; those that were not given are left to the spec's defaults."""
    values: dict[str, Any] = {"name": kind, "task": {"type": kind}}
    for name, value in params.items():
        if name not in TWINS or value is None or value == [] or value == ():
            continue
        *sections, key = TWINS[name].split(".")
        section = values
        for part in sections:
            section = section.setdefault(part, {})
        section[key] = int(value) if name == "top_k" and value.isdigit() else value
    return values


def storage_options(overrides: Iterable[str] | None, section: Literal["input", "output"]) -> dict[str, Any]:
    """What `--set` says about a section's storage, for the commands that have no job.

    Raises:
        SpecError: another key is set.
    """
    settings = list(overrides or ())
    for setting in settings:
        if not setting.startswith(("input.storage.", "output.storage.")):
            key = setting.partition("=")[0]
            raise SpecError(f"--set {key}: expected input.storage.OPTION=VALUE or output.storage.OPTION=VALUE here")
    return given_for_storage(settings, section)


def _option(*names: str, help: str, panel: str, twin: str = "", metavar: str | None = None) -> Any:
    """An option whose help names its twin."""
    shown = f"{help} [dim]({twin})[/dim]" if twin else help
    return typer.Option(*names, help=shown, rich_help_panel=panel, metavar=metavar, show_default=False)


# For every command.
_GENERAL = "General"
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.", rich_help_panel=_GENERAL)]
Debug = Annotated[bool, typer.Option("--debug", help="Print stack traces.", rich_help_panel=_GENERAL)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the job file, such as workers.max=4 or input.storage.endpoint_url=http://localhost:9000; "
        "may be given often.",
        show_default=False,
    ),
]

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.", show_default=False)]
OutputFolder = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="A job's output folder, or its URL.", show_default=False)
]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="How to reach the storage, where the environment does not say, such as "
        "output.storage.endpoint_url=http://localhost:9000; may be given often.",
        show_default=False,
    ),
]

# Input.
_INPUT = "Input"
InputUrl = Annotated[
    list[str],
    _option("--input", twin="input.url", panel=_INPUT, metavar="URL",
            help="A file, folder, glob or hf://datasets/ID; may be given often."),
]  # fmt: skip
Format = Annotated[
    Literal["auto", "parquet", "arrow", "jsonl", "csv", "text", "datasets"] | None,
    _option("--format", twin="input.format", panel=_INPUT, help="Default: auto, by the file's name."),
]
Fingerprint = Annotated[
    Literal["auto", "content"] | None,
    _option("--fingerprint", twin="input.fingerprint", panel=_INPUT,
            help="What tells a changed file; content: a digest, for which all is read. Default: auto, etag or time."),
]  # fmt: skip
TextColumn = Annotated[
    str | None,
    _option("--text-column", twin="input.text", panel=_INPUT, metavar="COLUMN",
            help="The column that holds the text; default: text."),
]  # fmt: skip
TextPair = Annotated[
    str | None,
    _option("--text-pair", twin="input.text_pair", panel=_INPUT, metavar="COLUMN",
            help="A second column, for models that take pairs."),
]  # fmt: skip

# Output.
_OUTPUT = "Output"
OutputUrl = Annotated[
    str, _option("--output", twin="output.url", panel=_OUTPUT, metavar="URL", help="The folder for the results.")
]
Keep = Annotated[
    list[str] | None,
    _option("--keep", twin="output.keep", panel=_OUTPUT, metavar="COLUMN",
            help="An input column to copy to the output; may be given often."),
]  # fmt: skip
Prune = Annotated[
    bool | None,
    _option("--prune", twin="output.prune", panel=_OUTPUT,
            help="Remove the rows of input files that are no longer there."),
]  # fmt: skip
Overwrite = Annotated[
    bool | None,
    _option("--overwrite", twin="output.overwrite", panel=_OUTPUT,
            help="Replace what another job has left in the output folder."),
]  # fmt: skip
Compression = Annotated[
    Literal["zstd", "snappy", "gzip", "lz4", "none"] | None,
    _option("--compression", twin="output.compression", panel=_OUTPUT, help="Default: zstd."),
]

# Model.
_MODEL = "Model"
Model = Annotated[
    str,
    _option("--model", twin="model.path", panel=_MODEL, metavar="MODEL", help="A folder, an fsspec URL or a Hub id."),
]
Revision = Annotated[
    str | None,
    _option("--revision", twin="model.revision", panel=_MODEL, help="A branch, tag or commit of a Hub id."),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    _option("--dtype", twin="model.dtype", panel=_MODEL, help="Precision; default: auto, by the device."),
]

# Workers.
_WORKERS = "Workers"
MaxWorkers = Annotated[
    int | None,
    _option("--max-workers", twin="workers.max", panel=_WORKERS, metavar="N", help="Replicas at most; default: 1."),
]
Gpus = Annotated[
    float | None, _option("--gpus", twin="workers.gpus", panel=_WORKERS, help="Per worker; default: 0, runs on CPU.")
]
Cpus = Annotated[float | None, _option("--cpus", twin="workers.cpus", panel=_WORKERS, help="Per worker; default: 1.")]
Name = Annotated[
    str | None, _option("--name", twin="name", panel=_GENERAL, help="The job's name; default: the command's.")
]

# Tasks.
_TASK = "Task"
MaxLength = Annotated[
    int | None,
    _option("--max-length", twin="task.max_length", panel=_TASK, metavar="TOKENS",
            help="Tokens in a sequence; default: what the model can take."),
]  # fmt: skip
LongText = Annotated[
    Literal["windows", "truncate"] | None,
    _option("--long-text", twin="task.long_text", panel=_TASK,
            help="What to do with a text longer than the model takes; default: windows."),
]  # fmt: skip
TopK = Annotated[
    str | None,
    _option("--top-k", twin="task.top_k", panel=_TASK, metavar="K|all", help="Give the K best labels as well."),
]
Threshold = Annotated[
    float | None, _option("--threshold", twin="task.threshold", panel=_TASK, help="The least score of a label.")
]
FunctionToApply = Annotated[
    Literal["auto", "none", "softmax", "sigmoid"] | None,
    _option("--function-to-apply", twin="task.function_to_apply", panel=_TASK,
            help="What makes scores of logits; default: auto, by the model's config."),
]  # fmt: skip
Pooling = Annotated[
    Literal["auto", "cls", "mean", "max", "pooler"] | None,
    _option("--pooling", twin="task.pooling", panel=_TASK,
            help="How token vectors become one; default: auto, as the model says, else mean."),
]  # fmt: skip
Normalize = Annotated[
    bool | None,
    _option("--normalize/--no-normalize", twin="task.normalize", panel=_TASK,
            help="Scale vectors to length 1; default: as the model says."),
]  # fmt: skip
Prefix = Annotated[
    str | None,
    _option("--prefix", twin="task.prefix", panel=_TASK, help="Put before each text, such as 'query: '."),
]
Dimensions = Annotated[
    int | None,
    _option("--dimensions", twin="task.dimensions", panel=_TASK, metavar="N", help="Keep the first N values."),
]
EmbeddingDtype = Annotated[
    Literal["float32", "float16"] | None,
    _option("--embedding-dtype", twin="task.dtype", panel=_TASK, help="Of the output; default: float32."),
]
Aggregation = Annotated[
    Literal["none", "simple", "first", "average", "max"] | None,
    _option("--aggregation", twin="task.aggregation", panel=_TASK,
            help="How tokens become entities; default: simple."),
]  # fmt: skip
IgnoreLabels = Annotated[
    list[str] | None,
    _option("--ignore-labels", twin="task.ignore_labels", panel=_TASK, metavar="LABEL",
            help="Leave out; may be given often; default: O."),
]  # fmt: skip
Stride = Annotated[
    int | None,
    _option("--stride", twin="task.stride", panel=_TASK, metavar="TOKENS",
            help="That two windows of a long text share; default: a quarter."),
]  # fmt: skip

# For `bench`, which has no job file.
BenchModel = Annotated[
    str | None,
    _option("--model", panel=_MODEL, metavar="MODEL",
            help="A folder, an fsspec URL or a Hub id; default: a RoBERTa of base size with random weights."),
]  # fmt: skip
BenchTask = Annotated[
    Literal["classify", "embed", "ner"],
    _option("--task", panel=_TASK, help="What the model is to do; default: embed."),
]
BenchInput = Annotated[
    list[str] | None,
    _option("--input", panel=_INPUT, metavar="URL",
            help="A file, folder, glob or hf://datasets/ID; default: text made up, half of it under 60 words."),
]  # fmt: skip
BenchGpus = Annotated[
    float | None, typer.Option("--gpus", min=0, help="Default: one if there is one.", rich_help_panel=_WORKERS)
]
BenchCpus = Annotated[
    int | None,
    typer.Option("--cpus", min=1, help="Threads of the model; default: all cores.", rich_help_panel=_WORKERS),
]
BenchSeconds = Annotated[
    float,
    typer.Option("--seconds", min=0.1, help="How long each of the two runs takes, roughly.", rich_help_panel=_GENERAL),
]
