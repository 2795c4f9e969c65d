"""Shows a run as it goes on: a live bar on a terminal, lines in a log file, and a summary at the end of both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jobs.wording import count, duration, one_line, plural, share, short, size
from pipeline.events import (
    Event,
    Heartbeat,
    RunFinished,
    RunStarted,
    RunSummary,
    UnitQuarantined,
    UnitRetried,
    UnitSplit,
    WorkerLost,
    WorkerReady,
)

MAX_NOTES_OF_A_KIND = 20  # a broken corpus may have thousands of bad units: the quarantine folder names them all


class RunDisplay(Protocol):
    """A context manager to be called with every event of a run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None: ...


def run_display(console: Console) -> RunDisplay:
    """The display that suits the console: live on a terminal, lines elsewhere."""
    return LiveDisplay(console) if console.is_interactive else LineDisplay(console)


class LineDisplay:
    """One line of progress every few seconds; the longer the run, the rarer."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._notes = Notes()
        self._began = clock()
        self._last_line = self._began
        self._has_workers = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._print(describe_start(event))
            case WorkerReady() if not self._has_workers:
                self._has_workers = True
                self._print("first worker ready")
            case Heartbeat() if self._has_workers:
                now = self._clock()
                # At least five seconds apart, a minute apart from the twentieth minute on: a night's log stays short.
                if now - self._last_line >= min(60.0, max(5.0, (now - self._began) / 20)):
                    self._last_line = now
                    self._print(_progress_line(event))
            case _:
                for line in self._notes.take(event):
                    self._print(line)

    def _print(self, line: str | Text) -> None:
        stamped = Text.assemble(time.strftime("%H:%M:%S  "), line)
        self._console.print(stamped)


class LiveDisplay:
    """A bar and a line of rates at the bottom of the terminal; notes scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._notes = Notes()
        self._started: RunStarted | None = None
        self._heartbeat: Heartbeat | None = None
        self._num_workers = 0
        self._spinner = Spinner("dots", style="cyan")
        # transient: at the end the summary takes the bar's place.
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started = event
                self._console.print(describe_start(event))
            case WorkerReady():
                self._num_workers = event.num_workers
            case Heartbeat():
                self._heartbeat = event
                self._num_workers = event.num_workers
            case _:
                for line in self._notes.take(event):
                    self._console.print(line)

    def _render(self) -> RenderableType:
        if self._started is None:
            return self._waiting("listing and planning the input")
        if self._heartbeat is None or (not self._num_workers and not self._heartbeat.num_rows):
            return self._waiting("starting workers")
        beat = self._heartbeat
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            self._spinner,
            ProgressBar(total=max(beat.units_total, 1), completed=beat.units_done, width=40),
            Text(_units(beat), style="bold"),
        )
        return Group(bar, Text("  " + " · ".join(_rates(beat)), style="dim", overflow="ellipsis", no_wrap=True))

    def _waiting(self, what: str) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        line.add_row(self._spinner, Text(f"{what} …", style="dim"))
        return line


class Notes:
    """Turns the events that a person should read into lines, and stops after some of each kind."""

    def __init__(self) -> None:
        self._seen: Counter[type] = Counter()

    def take(self, event: Event) -> list[Text]:
        note = _note(event)
        if note is None:
            return []
        self._seen[type(event)] += 1
        seen = self._seen[type(event)]
        if seen > MAX_NOTES_OF_A_KIND:
            return []
        if seen == MAX_NOTES_OF_A_KIND:
            return [note, Text("  … further notes of this kind are left out", style="dim")]
        return [note]


@contextmanager
def counting(console: Console, noun: str, verb: str) -> Iterator[Callable[[], None]]:
    """Shows how many there are so far, on a terminal; gives what to call for each."""
    number = 0
    with console.status(f"0 {noun}s {verb}") as shown:

        def one_more() -> None:
            nonlocal number
            number += 1
            shown.update(f"{plural(number, noun)} {verb}")

        yield one_more


def describe_start(event: RunStarted) -> Text:
    """What there is to do, in one line."""
    parts = [plural(event.num_files, "file"), plural(event.num_units, "unit")]
    if event.num_units_done_before:
        parts.append(f"{count(event.num_units_done_before)} already done")
    if event.num_rows is not None and event.num_units_done_before < event.num_units:
        parts.append(plural(event.num_rows, "row") + " to do")
    line = Text(" · ".join(parts))
    if event.num_bad_files:
        line.append(f" · {plural(event.num_bad_files, 'unreadable file')}", style="yellow")
    gone = "no longer in the input: {} of earlier runs"
    if event.num_gone_files:
        what = gone.format(plural(event.num_gone_files, "file"))
        line.append(f"\n  {what}; the rows stay, --prune removes them", style="yellow")
    if event.num_pruned_files:
        what = gone.format(plural(event.num_pruned_files, "file"))
        line.append(f"\n  {what}; the rows are removed", style="yellow")
    return line


def _units(beat: Heartbeat) -> str:
    done = share(beat.units_done, beat.units_total)
    return f"{count(beat.units_done)}/{count(beat.units_total)} units ({done})"


def _rates(beat: Heartbeat) -> list[str]:
    if not beat.num_rows:
        return [plural(beat.num_workers, "worker"), "the first units are under way"]
    rates = [
        plural(beat.num_rows, "row"),
        f"{short(beat.rows_per_s)} rows/s",
        f"{short(beat.tokens_per_s)} tokens/s",
        plural(beat.num_workers, "worker"),
    ]
    if beat.eta_s is not None:
        rates.append(f"{duration(beat.eta_s)} left")
    return rates


def _progress_line(beat: Heartbeat) -> str:
    return " · ".join([_units(beat), *_rates(beat)])


def _note(event: Event) -> Text | None:
    match event:
        case WorkerLost():
            rest = plural(event.num_workers, "worker")
            return Text(f"! lost worker {event.worker} ({_brief(event.reason)}); {rest} left", style="yellow")
        case UnitRetried():
            again = f"attempt {event.attempt} at unit {event.unit} failed, trying again: {_brief(event.reason)}"
            return Text(f"! {again}", style="yellow")
        case UnitSplit():
            parts = plural(len(event.parts), "unit")
            return Text(f"! unit {event.unit} cut into {parts} of one file: {_brief(event.reason)}", style="yellow")
        case UnitQuarantined():
            return Text(f"✗ unit {event.unit} put in quarantine: {_brief(event.reason)}", style="red")
        case RunFinished() | _:
            return None


def _brief(reason: str) -> str:
    return one_line(reason, 240)


def summary(end: RunSummary) -> RenderableType:
    """How a run ended: counts, throughput, where the output is and how to read it."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(justify="right")
    rows.add_column(style="dim")

    def add(name: str, value: str, remark: str = "", style: str = "") -> None:
        rows.add_row(f"  {name:<10}", Text(value, style=style), remark)

    num_done = end.num_units_done_before + end.num_units_committed
    num_quarantined = end.num_quarantined_units + end.num_quarantined_rows
    before = f"{count(end.num_units_done_before)} of them by earlier runs" if end.num_units_done_before else ""
    if end.num_units_done_before == num_done > 0:
        before = "by earlier runs"
    add("units", f"{count(num_done)}/{count(end.num_units)}", before)
    if end.num_units_committed:
        add("rows", count(end.num_rows), "in this run" if end.num_units_done_before else "")
    if end.num_empty:
        add("empty", count(end.num_empty), "no text, so no result")
    if end.num_errors:
        add("errors", count(end.num_errors), "the column `error` says why", "yellow")
    if end.num_long:
        add("long", count(end.num_long), "texts longer than the model takes at once")
    if end.num_quarantined_units:
        add("quarantine", count(end.num_quarantined_units), "units that could not be done", "red")
    if end.num_quarantined_rows:
        add("quarantine", count(end.num_quarantined_rows), "rows that could not be done", "red")
    if end.num_bad_files:
        add("bad files", count(end.num_bad_files), "could not be read", "red")
    if end.num_units_committed:
        add("speed", short(end.rows_per_s), f"rows/s, {short(end.tokens_per_s)} tokens/s")
        stages = {name: seconds for name, seconds in end.stage_s.items() if name != "wait"}
        busy = sum(stages.values())
        if busy:
            by_time = sorted(stages.items(), key=lambda stage: -stage[1])
            spent = ", ".join(f"{name} {share(seconds, busy)}" for name, seconds in by_time)
            add("busy", duration(busy), f"of work in all stages: {spent}")
        waited = end.stage_s.get("wait", 0.0)
        if waited:
            device_s = waited + stages.get("forward", 0.0)
            add("waited", duration(waited), f"{share(waited, device_s)} of the devices' time")
        if end.peak_worker_memory_bytes:
            add("memory", size(end.peak_worker_memory_bytes), "at most, in a worker")

    if end.num_gone_files:
        add(
            "gone",
            count(end.num_gone_files),
            "files no longer in the input; the rows stay, --prune removes them",
            "yellow",
        )
    if end.num_pruned_files:
        add("pruned", count(end.num_pruned_files), "files no longer in the input; the rows were removed", "yellow")

    # Places stand on lines of their own, never wrapped, so that they can be copied.
    places: list[RenderableType] = []
    if num_done:
        places.append(_place("output", end.output_url, "bold"))
        places.append(_place("read", f'pd.read_parquet("{end.output_url}")', "cyan"))
    if num_quarantined or end.num_bad_files:
        places.append(_place("reasons", f"{end.output_url.rstrip('/')}/_shardmill/quarantine/", "red"))
    return Group(headline(end), rows, *([Text()] if places else []), *places)


def _place(name: str, place: str, style: str) -> Text:
    return Text.assemble((f"  {name:<12}", "dim"), (place, style))


def headline(end: RunSummary) -> Text:
    """How a run ended, in one line."""
    took = duration(end.seconds)
    num_over = (
        end.num_units_done_before + end.num_units_committed + end.num_quarantined_units + end.num_quarantined_rows
    )
    again = "run the same command again to go on from here"
    match end.state:
        case "done" if end.exit_code == 3:
            # The allowance is the spec's `limits`: the output is complete but for what is counted below.
            line = Text(f"Done in {took}, but more went wrong than the job's limits allow", style="bold yellow")
        case "done" if num_over < end.num_units:
            # A retry of a job that was not finished: it does nothing else than what is in quarantine.
            line = Text(f"Tried again in {took}; run the job to do the rest of it", style="bold yellow")
        case "done" if not end.num_units_committed and end.num_units_done_before:
            line = Text("Nothing to do: everything is done already", style="bold green")
        case "done":
            line = Text(f"Done in {took}", style="bold green")
        case "interrupted":
            line = Text(f"Interrupted after {took}; {again}", style="bold yellow")
        case "failed":
            line = Text(f"Failed after {took}", style="bold red")
        case "running":
            line = Text(f"Running for {took}", style="bold")
    if end.reason:
        line.append(f": {end.reason}", style="not bold")
    return line
