"""The `shardmill` command. Each command builds a spec from its options, calls the code that does the work, and prints.

The heavy libraries are imported by the commands that need them, so that `--help` and `status` answer at once.
"""

from __future__ import annotations

import functools
import inspect
import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from jobs import flags, reports
from jobs.display import counting, run_display, summary
from jobs.flags import Debug, JobFile, OutputFolder, Overrides, StorageOptions, Verbose
from jobs.screen import console, exit_codes, log_to_stderr

if TYPE_CHECKING:
    from jobs.spec import JobSpec
    from pipeline.events import OnEvent, RunSummary

Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Labels and embeds text corpora: text in, labelled Parquet out.",
    epilog="New here? [bold]shardmill demo[/bold] shows the whole thing, offline, in a minute or two.",
)


def main() -> None:
    """The console script."""
    # Schedulers end a job by SIGTERM: it is to stop as by Ctrl-C, with its record written and its workers gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ shows a question mark
    app(prog_name="shardmill")


def _command(*examples: str) -> Callable[[Command], Command]:
    """Makes a function a command: with examples in its help, with logging set up, and with our exit codes."""

    def add(function: Command) -> Command:
        @functools.wraps(function)
        def command(*, verbose: bool, debug: bool, **options: Any) -> None:
            log_to_stderr(verbose=verbose)
            with exit_codes(debug=debug):
                function(**options)

        lines = "\n".join(f"  {example}" for example in examples)
        app.command(epilog=f"[bold]Examples[/bold]\n{lines}")(command)
        return function

    return add


@_command("shardmill demo", "shardmill demo --output /tmp/demo")
def demo(
    output: Annotated[Path, typer.Option(help="Where the results go.", metavar="DIR")] = Path("demo-output"),
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Runs five small jobs, English and Chinese, on bundled text with bundled models, offline."""
    from jobs.tour import tour

    tour(output, console())


@_command("shardmill run nightly.yaml", "shardmill run nightly.yaml --set workers.max=4 --set output.url=/tmp/try")
def run(
    job: JobFile,
    prune: flags.Prune = None,
    overwrite: flags.Overwrite = None,
    overrides: Overrides = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Does a job: all of it, or what is left of it. The same command resumes, however often."""
    from jobs.spec import JobSpec

    given = {"output.prune": prune, "output.overwrite": overwrite}
    settings = [f"{key}={str(value).lower()}" for key, value in given.items() if value is not None]
    _run(JobSpec.from_yaml(job, [*(overrides or ()), *settings]))


@_command("shardmill retry labels", "shardmill retry s3://labels/nightly-ner --set limits.attempts=5")
def retry(output: OutputFolder, overrides: Overrides = None, verbose: Verbose = False, debug: Debug = False) -> None:
    """Tries again what is in quarantine, and nothing else, from the output folder alone."""
    from jobs.api import retry as retry_job

    _watch(lambda on_event: retry_job(output, overrides or (), on_event=on_event))


def _every_job(
    ctx: typer.Context,
    model: flags.Model,
    input: flags.InputUrl,
    output: flags.OutputUrl,
    text_column: flags.TextColumn = None,
    format: flags.Format = None,
    fingerprint: flags.Fingerprint = None,
    keep: flags.Keep = None,
    compression: flags.Compression = None,
    prune: flags.Prune = None,
    overwrite: flags.Overwrite = None,
    revision: flags.Revision = None,
    dtype: flags.Dtype = None,
    max_length: flags.MaxLength = None,
    max_workers: flags.MaxWorkers = None,
    gpus: flags.Gpus = None,
    cpus: flags.Cpus = None,
    name: flags.Name = None,
    overrides: Overrides = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """The options that every kind of job has."""


def _job_command(*examples: str) -> Callable[[Command], Command]:
    """Makes a command of a kind of job, which has its name, from a function with the options of that kind alone."""

    def add(function: Command) -> Command:
        options = [
            option
            for having_them in (_every_job, function)
            for option in inspect.signature(having_them, eval_str=True).parameters.values()
        ]

        @functools.wraps(function)
        def command(ctx: typer.Context, **_: Any) -> None:
            _run(_spec(function.__name__, ctx))

        # Where typer looks for the options.
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {option.name: option.annotation for option in options}
        return cast(Command, _command(*examples)(command))

    return add


@_job_command(
    "shardmill classify --model ./topics --input 'texts/*.parquet' --output labels --keep id",
    "shardmill classify --model ./topics --input s3://corpus/2026 --output s3://labels/topics --top-k 3 --gpus 1",
)
def classify(
    text_pair: flags.TextPair = None,
    top_k: flags.TopK = None,
    threshold: flags.Threshold = None,
    function_to_apply: flags.FunctionToApply = None,
    long_text: flags.LongText = None,
) -> None:
    """Gives every text a label and a score. The same command resumes."""


@_job_command(
    "shardmill embed --model ./encoder --input texts.csv --output vectors --keep id",
    "shardmill embed --model ./encoder --input s3://corpus/2026 --output s3://vectors --prefix 'query: ' --gpus 1",
)
def embed(
    text_pair: flags.TextPair = None,
    pooling: flags.Pooling = None,
    normalize: flags.Normalize = None,
    prefix: flags.Prefix = None,
    dimensions: flags.Dimensions = None,
    embedding_dtype: flags.EmbeddingDtype = None,
    long_text: flags.LongText = None,
) -> None:
    """Gives every text a vector. The same command resumes."""


@_job_command(
    "shardmill ner --model ./ner --input 'texts/*.jsonl' --output entities --keep id",
    "shardmill ner --model ./ner --input s3://corpus/2026 --output s3://labels/ner --aggregation first --gpus 1",
)
def ner(
    aggregation: flags.Aggregation = None,
    ignore_labels: flags.IgnoreLabels = None,
    stride: flags.Stride = None,
) -> None:
    """Finds the people, places and other entities in every text. The same command resumes."""


@_command("shardmill plan nightly.yaml", "shardmill plan nightly.yaml --set input.unit_bytes=50000000")
def plan(job: JobFile, overrides: Overrides = None, verbose: Verbose = False, debug: Debug = False) -> None:
    """Shows what `run` would do: files, units, rows, estimates. Writes nothing."""
    from jobs.plan import make_plan
    from jobs.spec import JobSpec

    spec = JobSpec.from_yaml(job, overrides or ())
    screen = console()
    with screen.status("listing and planning the input …"):
        made = make_plan(spec)
    screen.print(reports.plan_report(made, name=spec.name, output_url=spec.output.url))


@_command("shardmill preview nightly.yaml", "shardmill preview nightly.yaml -n 3 --set task.aggregation=first")
def preview(
    job: JobFile,
    num_rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=1000, help="How many rows.")] = 10,
    overrides: Overrides = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Shows the first rows' results as a table. In this process, without Ray; writes nothing."""
    from jobs.preview import first_results
    from jobs.spec import JobSpec
    from jobs.tables import results_table

    spec = JobSpec.from_yaml(job, overrides or ())
    screen = console()
    with screen.status("loading the model, reading the first rows …"):
        results = first_results(spec, num_rows)
    screen.print(results_table(results, text=spec.input.text, title=spec.name))


@_command("shardmill status labels", "shardmill status s3://labels/nightly-ner")
def status(
    output: OutputFolder, overrides: StorageOptions = None, verbose: Verbose = False, debug: Debug = False
) -> None:
    """Shows how far a job is, from its output folder alone."""
    from pipeline.status import read_status
    from pipeline.storage import Storage

    storage = Storage.open(output, flags.storage_options(overrides, "output"))
    console().print(reports.status_report(read_status(storage)))


@_command("shardmill verify labels", "shardmill verify s3://labels/nightly-ner --quick")
def verify(
    output: OutputFolder,
    quick: Annotated[bool, typer.Option("--quick", help="Trust the records: do not read the input again.")] = False,
    overrides: StorageOptions = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Proves that every input row is in the output once, in order; exit code 1 if not."""
    from pipeline.storage import Storage
    from pipeline.verify import verify_output

    screen = console()
    storage = Storage.open(output, flags.storage_options(overrides, "output"))
    input_storage = flags.storage_options(overrides, "input")
    with counting(screen, "unit", "checked") as on_unit:
        found = verify_output(storage, input_storage=input_storage, quick=quick, on_unit=on_unit)
    screen.print(reports.verification_report(found, storage.url))
    if not found.passed:
        raise typer.Exit(1)


@_command(
    "shardmill bench",
    "shardmill bench --model ./ner --task ner --input 'texts/*.jsonl' --cpus 4 --seconds 60",
)
def bench(
    model: flags.BenchModel = None,
    task: flags.BenchTask = "embed",
    input: flags.BenchInput = None,
    text_column: flags.TextColumn = None,
    dtype: flags.Dtype = None,
    gpus: flags.BenchGpus = None,
    cpus: flags.BenchCpus = None,
    seconds: flags.BenchSeconds = 20.0,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Measures this machine's throughput against what its matrix multiplies allow. In this process, without Ray."""
    from jobs.bench import bench as measure

    screen = console()
    with screen.status("") as shown:
        measured = measure(
            model=model,
            task=task,
            urls=input or (),
            text_column=text_column or "text",
            dtype=dtype or "auto",
            gpus=gpus,
            cpus=cpus,
            seconds=seconds,
            on_step=lambda step: shown.update(f"{step} …"),
        )
    screen.print(reports.bench_report(measured, model=model, task=task))


def _spec(kind: str, ctx: typer.Context) -> JobSpec:
    from jobs.spec import JobSpec

    return JobSpec.from_dict(flags.spec_values(kind, ctx.params), ctx.params["overrides"] or ())


def _run(spec: JobSpec) -> None:
    from jobs.api import run as run_job

    _watch(lambda on_event: run_job(spec, on_event=on_event))


def _watch(job: Callable[[OnEvent], RunSummary]) -> None:
    """Runs a job with its progress and its end on screen, and ends the command as the job ended."""
    screen = console()
    with run_display(screen) as display:
        end = job(display)
    screen.print(summary(end))
    raise typer.Exit(end.exit_code)


if __name__ == "__main__":
    main()
