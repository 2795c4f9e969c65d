"""What `plan`, `status`, `verify` and `bench` print."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.wording import count, duration, one_line, plural, share, short, size

if TYPE_CHECKING:  # `verify` brings in torch, which `status` should not wait for
    from jobs.plan import Plan
    from pipeline.bench import BenchResult, Speed
    from pipeline.events import RunSummary
    from pipeline.status import OutputStatus
    from pipeline.units import Unit
    from pipeline.verify import Check, Verification

# How the ranges of these formats are counted; those of the others are bytes.
COUNTED = {"parquet": "row groups", "arrow": "record batches", "arrow-stream": "record batches"}
MAX_QUARANTINE = 10  # entries shown
MAX_RUNS = 5
MAX_DELETABLE = 10
STATES = {
    "done": ("done", "bold green"),
    "running": ("running", "bold cyan"),
    "stale": ("stopped without a word: its driver is gone; run the job again to go on", "bold yellow"),
    "interrupted": ("interrupted; run the job again to go on", "bold yellow"),
    "failed": ("failed; run the job again to go on", "bold red"),
    "unfinished": ("not finished; run the job again to go on", "bold yellow"),
}


def plan_report(plan: Plan, *, name: str, output_url: str) -> RenderableType:
    """What a run would do: totals, then the first units."""
    totals = _grid()
    formats = ", ".join(f"{count(number)} {kind}" for kind, number in sorted(plan.formats.items()))
    totals.add_row("files", count(plan.num_files), f"{size(plan.file_bytes)}; {formats}")
    if plan.num_bad_files:
        totals.add_row("bad files", Text(count(plan.num_bad_files), style="red"), "cannot be read; see below")
    if plan.num_units_before:
        to_do = plural(plan.num_units_before - plan.num_done, "unit") + " to do"
        totals.add_row(
            "before", count(plan.num_units_before), f"units of {plural(plan.num_files_before, 'file')}, {to_do}"
        )
    if plan.num_gone_files:
        totals.add_row(
            "gone", count(plan.num_gone_files), "files no longer in the input; their rows stay without --prune"
        )
    if plan.num_pruned_files:
        totals.add_row(
            "pruned", count(plan.num_pruned_files), "files no longer in the input; their rows will be removed"
        )
    totals.add_row("new units" if plan.num_units_before else "units", count(plan.num_units), "")
    if plan.num_units:
        known = plan.num_rows is not None
        totals.add_row("rows", count(plan.num_rows or 0) if known else "?", "" if known else "known once they are read")
        totals.add_row("text", size(plan.text_bytes), "at a guess")
        totals.add_row("tokens", short(plan.num_tokens), "at a guess: four bytes each")
    lines: list[RenderableType] = [Text.assemble((name, "bold"), "  →  ", output_url), totals]
    if plan.first_units:
        lines += [Text(), _unit_table(plan)]
    lines += [Text(f"✗ {one_line(reason, 300)}", style="red") for reason in plan.bad_files]
    return Group(*lines)


def _unit_table(plan: Plan) -> Table:
    rest = plan.num_units - len(plan.first_units)
    table = Table(header_style="bold", caption=f"and {plural(rest, 'more unit')}" if rest else None)
    table.add_column("unit", justify="right")
    table.add_column("rows", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("from", overflow="fold")
    for number, unit in enumerate(plan.first_units, 1):  # names come with the job, once it runs
        rows = "?" if unit.num_rows is None else count(unit.num_rows)
        table.add_row(count(number), rows, size(unit.size_bytes), _origin(unit))
    return table


def _origin(unit: Unit) -> Text:
    piece = unit.pieces[0]
    shown = Text(piece.file.url.rsplit("/", 1)[-1])
    if len(unit.pieces) > 1:
        return shown.append(f" and {plural(len(unit.pieces) - 1, 'more file')}", style="dim")
    if piece.file.format in COUNTED:
        last = "" if piece.stop is None else count(piece.stop - 1)
        shown.append(f" {COUNTED[piece.file.format]} {count(piece.start)}–{last}", style="dim")
    elif piece.start or piece.stop not in (None, piece.file.size_bytes):
        end = "the end" if piece.stop is None else count(piece.stop)
        shown.append(f" bytes {count(piece.start)} to {end}", style="dim")
    return shown


def status_report(status: OutputStatus) -> RenderableType:
    """How far a job is."""
    state, style = STATES[status.state]
    bar = Table.grid(padding=(0, 1))
    done = status.num_units - status.num_missing
    progress = f"{count(done)}/{count(status.num_units)} units ({share(done, status.num_units)})"
    bar.add_row(
        "  ", ProgressBar(total=max(status.num_units, 1), completed=done, width=40), Text(progress, style="bold")
    )
    facts = _grid()
    rows = "" if status.num_rows is None else plural(status.num_rows, "row")
    facts.add_row("committed", count(status.num_committed), rows)
    if status.num_missing:
        facts.add_row("to do", count(status.num_missing), "")
    for number, what in (
        (status.num_quarantined, "units that could not be done"),
        (status.num_quarantined_rows, "rows that could not be done"),
        (status.num_bad_files, "files that could not be read"),
    ):
        if number:
            facts.add_row("quarantine", Text(count(number), style="red"), what)
    if status.num_gone_files:
        facts.add_row("gone", count(status.num_gone_files), "files no longer in the input; their rows are still here")
    if status.num_leftovers:
        facts.add_row("leftovers", count(status.num_leftovers), "writes begun and not finished; a run removes old ones")
    if status.last_run is not None:
        for name, fact in _last_run(status.last_run, status):
            facts.add_row(name, "", fact)
    lines: list[RenderableType] = [
        Text.assemble((str(status.job.get("name", "?")), "bold"), "  ", (state, style)),
        Text(f"  {status.output_url}", style="dim"),
        bar,
        facts,
    ]
    if status.last_run is not None and status.last_run.reason:
        lines.append(Text(f"  {one_line(status.last_run.reason, 500)}", style="yellow"))
    lines += _earlier_runs(status)
    if status.quarantine:
        lines.append(Text(f"\n  in quarantine; shardmill retry {status.output_url} tries it again", style="red"))
        lines += [Text(f"  ✗ {record.place or record.name}: {one_line(record.reason, 300)}")
                  for record in status.quarantine[:MAX_QUARANTINE]]  # fmt: skip
    if len(status.quarantine) > MAX_QUARANTINE:
        rest = count(len(status.quarantine) - MAX_QUARANTINE)
        lines.append(Text(f"  … and {rest} more in {status.output_url}/_shardmill/quarantine/", style="dim"))
    return Group(*lines)


def _earlier_runs(status: OutputStatus) -> list[Text]:
    """How the runs before the last one ended, the latest first."""
    earlier = status.runs[:-1][::-1]
    lines = []
    for run in earlier[:MAX_RUNS]:
        ended = "stopped without a word" if run.state == "running" else run.state
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started_at))
        reason = f": {one_line(run.reason, 120)}" if run.reason else ""
        did = f"{plural(run.num_units_committed, 'unit')}, {plural(run.num_rows, 'row')} in {duration(run.seconds)}"
        lines.append(Text(f"  before      {began}  {ended} · {did}{reason}", style="dim"))
    if len(earlier) > MAX_RUNS:
        lines.append(Text(f"              and {plural(len(earlier) - MAX_RUNS, 'earlier run')}", style="dim"))
    return lines


def _last_run(run: RunSummary, status: OutputStatus) -> Iterator[tuple[str, str]]:
    yield "last run", f"began {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(run.started_at))}"
    told = [plural(run.num_rows, "row"), f"{short(run.rows_per_s)} rows/s", f"{short(run.tokens_per_s)} tokens/s"]
    if run.num_errors:
        told.append(plural(run.num_errors, "error"))
    yield "", f"{' · '.join(told)}, in {duration(run.seconds)}"
    if status.state == "running":
        left = "" if run.eta_s is None else f" · {duration(run.eta_s)} left"
        yield "", plural(run.num_workers, "worker") + left
    if status.state in ("running", "stale"):
        yield "", f"last heartbeat {duration(status.heartbeat_age_s or 0.0)} ago"


MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "noted": ("!", "yellow"),
    "skipped": ("–", "dim"),
}


def verification_report(found: Verification, output_url: str) -> RenderableType:
    """The checks with their marks and counts, then what contradicts them."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    for check in found.checks:
        mark, style = MARKS[check.outcome]
        checked = plural(check.num_checked, check.of) if check.num_checked else ""
        table.add_row(Text(f"  {mark}", style=style), check.name, checked, _outcome(check))
    problems = [
        line
        for check in found.checks
        if check.num_problems
        for line in (Text(f"\n{MARKS[check.outcome][0]} {check.name}", style=MARKS[check.outcome][1]),
                     *_problems(check))
    ]  # fmt: skip
    if found.may_be_deleted:
        problems.append(Text(f"\nmay be deleted: {plural(len(found.may_be_deleted), 'file')}", style="yellow"))
        problems += [Text(f"  {path}") for path in found.may_be_deleted[:MAX_DELETABLE]]
        if len(found.may_be_deleted) > MAX_DELETABLE:
            problems.append(Text(f"  … and {count(len(found.may_be_deleted) - MAX_DELETABLE)} more", style="dim"))
    counts = [
        plural(found.num_units, "unit"),
        plural(found.num_rows, "row"),
        f"{count(found.num_empty)} empty",
        plural(found.num_errors, "error"),
        f"{count(found.num_quarantined)} in quarantine",
    ]
    if found.num_bad_files:
        counts.append(plural(found.num_bad_files, "unreadable file"))
    verdict = Text("all of it holds", style="bold green") if found.passed else Text("does not hold", style="bold red")
    headline = Text.assemble(output_url, "  ", verdict)
    return Group(headline, Text("  " + " · ".join(counts), style="dim"), Text(), table, *problems)


def _outcome(check: Check) -> Text:
    if check.num_problems and check.is_news:
        return Text("work for the next run", style="yellow")
    if check.num_problems:
        return Text(plural(check.num_problems, "problem"), style="red")
    return Text(one_line(check.remark, 200))


def _problems(check: Check) -> list[Text]:
    lines = [Text(f"  {problem}") for problem in check.problems]
    if check.num_problems > len(check.problems):
        lines.append(Text(f"  … and {count(check.num_problems - len(check.problems))} more", style="dim"))
    return lines


BESIDE_THE_MODEL = ("read", "tokenize", "decode", "write", "commit")  # stages in threads of their own


def bench_report(found: BenchResult, *, model: str | None, task: str) -> RenderableType:
    """Throughput beside the machine's ceiling, then where the time went, then what else is to be known."""
    threads = f"{plural(found.num_threads, 'thread')} of " if not found.peak_device_bytes else ""
    lines: list[RenderableType] = [
        Text.assemble((model or "RoBERTa of base size, random weights", "bold"), f"  {task}, {found.dtype}"),
        Text(f"  {threads}{found.device}", style="dim"),
        Text(),
        _speeds(found),
        Text(),
        _stages(found),
        Text(),
    ]
    facts = _grid()
    attention = found.attention_flops_per_token / found.flops_per_token
    lowest = f", {short(min(found.matmul_rates) / 1e12)} at the worst of {len(found.matmul_rates)} times"
    facts.add_row("ceiling", f"{short(found.ceiling / 1e12)} TFLOP/s", f"of matrix multiplies in this run{lowest}")
    facts.add_row("a token", f"{short(found.flops_per_token / 1e6)} MFLOP", f"attention comes on top: {attention:.1%}")
    facts.add_row("padding", "0%", "texts are packed end to end; what fills a kernel's tiles is not counted")
    facts.add_row("memory", size(found.peak_memory_bytes), "of this process at most")
    if found.peak_device_bytes:
        facts.add_row("", size(found.peak_device_bytes), "of the device at most")
    facts.add_row("first pass", duration(found.first_forward_s), "of the model, before it is warm")
    if found.accuracy is not None:
        accuracy = found.accuracy
        compared = f"to float32, of {plural(accuracy.num_rows, 'row')}"
        if accuracy.least_cosine is not None:
            facts.add_row("accuracy", f"{accuracy.least_cosine:.6f}", f"least cosine {compared}")
        if accuracy.label_agreement is not None:
            facts.add_row("labels", f"{accuracy.label_agreement:.2%}", f"equal {compared}")
    return Group(*lines, facts)


def _speeds(found: BenchResult) -> Table:
    table = Table.grid(padding=(0, 2))
    table.pad_edge = True
    heads = ("tokens/s", "rows/s", "TFLOP/s", "of the ceiling")
    table.add_column()
    for _ in heads:
        table.add_column(justify="right")
    table.add_row("", *(Text(head, style="dim") for head in heads))
    table.add_row("ceiling", short(found.ceiling_tokens_per_s), "", short(found.ceiling / 1e12), "100%")
    for name, speed in (("forward alone", found.forward), ("end to end", found.end_to_end)):
        table.add_row(Text(name, style="bold"), *_speed(found, speed))
    return table


def _speed(found: BenchResult, speed: Speed) -> tuple[str, str, str, str]:
    flops = speed.tokens_per_s * found.flops_per_token
    reached = share(found.share_of_ceiling(speed), 1.0)
    return short(speed.tokens_per_s), short(speed.rows_per_s), short(flops / 1e12), reached


def _stages(found: BenchResult) -> Table:
    whole = found.end_to_end.seconds
    forward = found.stage_s.get("forward", 0.0)
    table = _grid()
    table.add_row("end to end", duration(whole), f"{plural(found.end_to_end.num_rows, 'row')} from file to Parquet")
    floor = share(found.end_to_end.num_tokens / found.ceiling_tokens_per_s, forward)
    table.add_row("  forward", duration(forward), f"{share(forward, whole)}; at the ceiling it were {floor} of that")
    table.add_row("  wait", duration(found.wait_s), f"{share(found.wait_s, whole)}: the device had nothing to do")
    for stage in BESIDE_THE_MODEL:
        seconds = found.stage_s.get(stage, 0.0)
        table.add_row(f"  {stage}", duration(seconds), f"{share(seconds, whole)}, while others work")
    return table


def _grid() -> Table:
    """Name, number, remark."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=10)
    grid.add_column(justify="right")
    grid.add_column(style="dim")
    grid.pad_edge = True
    return grid
