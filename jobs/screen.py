"""What the command line prints on: the console, log lines on stderr, and how an error ends a command."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from pipeline.errors import ShardmillError

BUG = 1
CANNOT_READ = 4
INTERRUPTED = 130
OUR_PACKAGES = ("jobs", "pipeline", "models")
LINE_WIDTH = 120  # where there is no terminal to ask


def console() -> Console:
    """The console for results, on stdout. Text is printed as it is: no markup, no colours by guess, no broken lines."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else LINE_WIDTH
    return Console(width=width, soft_wrap=True, markup=False, highlight=False, emoji=False)


def log_to_stderr(*, verbose: bool) -> None:
    """Sends warnings to stderr, and with `verbose` what our own packages say of their work."""
    root = logging.getLogger()
    if not any(isinstance(handler, StderrHandler) for handler in root.handlers):
        root.addHandler(StderrHandler())
    for name in OUR_PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment: a live display puts its own there, to print above its bar."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"{record.levelname.lower()}: {self.format(record)}", file=sys.stderr)


@contextmanager
def exit_codes(*, debug: bool) -> Iterator[None]:
    """Ends the command with the exit code that belongs to an exception, and a message instead of a stack trace.

    Args:
        debug: print the stack trace too, whoever is to blame.
    """
    try:
        yield
    except KeyboardInterrupt:
        _print_error("interrupted: nothing is lost, run the same command again to go on from here")
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, BrokenPipeError):
        raise  # for typer to end the command with
    except Exception as error:
        exit_code, message = _explain(error)
        if debug:
            traceback.print_exception(error)
        _print_error(message)
        raise typer.Exit(exit_code) from None


def _explain(error: Exception) -> tuple[int, str]:
    if isinstance(error, ShardmillError):
        return error.exit_code, str(error)
    models = sys.modules.get("models.errors")  # not imported for this alone: it brings in torch
    if models is not None and isinstance(error, models.ModelError):
        return CANNOT_READ, str(error)
    return BUG, _our_fault(error)


def _print_error(message: str) -> None:
    line = Text.assemble(("error: ", "bold red"), message)
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(line, soft_wrap=True)


def _our_fault(error: Exception) -> str:
    """Names the kind of bug and the line, not the exception's own words: they might quote the corpus."""
    trace = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).parent.parent
    ours = [frame for frame in trace if any(Path(frame.filename).is_relative_to(root / name) for name in OUR_PACKAGES)]
    where = ""
    if ours:
        where = f" in {Path(ours[-1].filename).relative_to(root)}, line {ours[-1].lineno}"
    with tempfile.NamedTemporaryFile(
        "w", prefix="shardmill-", suffix=".log", delete=False, encoding="utf-8"
    ) as written:
        traceback.print_exception(error, file=written)
    return (
        f"a bug of shardmill, not of yours: {type(error).__name__}{where}\n"
        f"The full trace is in {written.name} (it may quote your text); --debug prints it here."
    )
