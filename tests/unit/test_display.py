"""A run on screen: lines where there is no terminal, a bar where there is one, a summary in both."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from jobs.display import MAX_NOTES_OF_A_KIND, LineDisplay, LiveDisplay, run_display, summary
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

STARTED = RunStarted(
    run_id="r", output_url="/out", num_files=12, num_bad_files=1, num_units=40, num_units_done_before=8, num_rows=91_232
)
BEAT = Heartbeat(
    units_done=20,
    units_total=40,
    units_in_flight=2,
    num_rows=12_034,
    num_tokens=900_000,
    rows_per_s=1234.0,
    tokens_per_s=231_000.0,
    num_workers=2,
    eta_s=200.0,
)
END = RunSummary(
    run_id="r",
    state="done",
    output_url="/out",
    started_at=0.0,
    updated_at=432.0,
    num_units=40,
    num_units_committed=40,
    num_rows=91_232,
    rows_per_s=1234.0,
    tokens_per_s=231_000.0,
    stage_s={"forward": 300.0, "wait": 12.0, "read": 100.0},
    peak_worker_memory_bytes=1_230_000_000,
)


def printed(*what: object, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None, soft_wrap=True)
    for item in what:
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(*events: tuple[float, Event]) -> list[str]:
    """What the line display prints of events at these times, without the time of day."""
    console = Console(file=io.StringIO(), width=40, soft_wrap=True)
    now = 0.0
    with LineDisplay(console, clock=lambda: now) as display:
        for now, event in events:  # noqa: B007 (the clock reads it)
            display(event)
    assert isinstance(console.file, io.StringIO)
    return [line[10:] for line in console.file.getvalue().splitlines()]


def test_lines_say_what_there_is_to_do_and_how_far_it_is() -> None:
    assert lines((0, STARTED), (1, WorkerReady(worker="a", num_workers=1)), (10, BEAT)) == [
        "12 files · 40 units · 8 already done · 91,232 rows to do · 1 unreadable file",
        "first worker ready",
        "20/40 units (50%) · 12,034 rows · 1.23k rows/s · 231k tokens/s · 2 workers · 3 min 20 s left",
    ]


def test_lines_of_progress_are_rare_and_the_rarer_the_longer_the_run() -> None:
    ready = (0.0, WorkerReady(worker="a", num_workers=1))
    first_minute = lines(ready, *((float(second), BEAT) for second in range(60)))
    assert len(first_minute) == 12
    night = lines(ready, *((float(second), BEAT) for second in range(8 * 3600)))
    assert len(night) < 8 * 60 + 100


def test_there_is_no_progress_before_there_is_a_worker() -> None:
    assert lines((10, replace(BEAT, num_workers=0)), (20, WorkerReady(worker="a", num_workers=1))) == [
        "first worker ready"
    ]


def test_lines_tell_of_trouble_at_once_and_on_one_line() -> None:
    assert lines(
        (1, WorkerLost(worker="w1", reason="killed\nby the system", num_workers=1)),
        (1, UnitRetried(unit="u1", attempt=1, reason="timeout")),
        (1, UnitSplit(unit="u2", parts=("u2.0000", "u2.0001"), reason="b.parquet is truncated")),
        (1, UnitQuarantined(unit="u2.0001", reason="b.parquet is truncated")),
    ) == [
        "! lost worker w1 (killed by the system); 1 worker left",
        "! attempt 1 at unit u1 failed, trying again: timeout",
        "! unit u2 cut into 2 units of one file: b.parquet is truncated",
        "✗ unit u2.0001 put in quarantine: b.parquet is truncated",
    ]


def test_a_broken_corpus_does_not_flood_the_screen() -> None:
    shown = lines(*((1.0, UnitQuarantined(unit=f"u{i}", reason="truncated")) for i in range(1000)))
    assert len(shown) == MAX_NOTES_OF_A_KIND + 1
    assert "left out" in shown[-1]


def test_the_summary_says_where_the_time_went() -> None:
    shown = printed(summary(END))
    assert "of work in all stages: forward 75%, read 25%" in shown
    assert "waited" in shown
    assert "4% of the devices' time" in shown


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, force_interactive=True, color_system=None)
    display = run_display(console)
    assert isinstance(display, LiveDisplay)
    events: list[Event] = [
        STARTED,
        WorkerReady(worker="a", num_workers=1),
        BEAT,
        UnitQuarantined(unit="u1", reason="truncated"),
        RunFinished(summary=END),
    ]
    frames = []
    with display:
        frames.append(printed(display._render()))
        for event in events:
            display(event)
            frames.append(printed(display._render()))
    assert "listing and planning the input …" in frames[0]
    assert "starting workers …" in frames[1]
    assert "20/40 units (50%)" in frames[3]
    assert "━" in frames[3]
    assert "1.23k rows/s · 231k tokens/s · 2 workers · 3 min 20 s left" in frames[3]
    assert isinstance(console.file, io.StringIO)
    whole = console.file.getvalue()
    assert "✗ unit u1 put in quarantine: truncated" in whole
    assert whole.rstrip("\n").endswith("\x1b[1A\x1b[2K"), "the bar was not wiped away"


def test_no_terminal_gets_lines() -> None:
    assert isinstance(run_display(Console(file=io.StringIO())), LineDisplay)


def test_summary_of_a_good_run() -> None:
    shown = printed(summary(END))
    assert shown.startswith("Done in 7 min 12 s\n")
    for line in (
        ("units", "40/40"),
        ("rows", "91,232"),
        ("speed", "1.23k", "rows/s, 231k tokens/s"),
        ("forward 75%, read 25%",),
        ("memory", "1.23 GB"),
        ('pd.read_parquet("/out")',),
    ):
        assert all(word in shown for word in line), line
    for word in ("errors", "quarantine", "empty", "reasons"):
        assert word not in shown


def test_summary_says_where_to_look_when_something_is_wrong() -> None:
    bad = replace(END, exit_code=3, num_errors=5, num_empty=2, num_quarantined_units=1, num_units_committed=39)
    shown = printed(summary(bad))
    assert "more went wrong than the job's limits allow" in shown
    assert "the column `error` says why" in shown
    assert "/out/_shardmill/quarantine/" in shown


@pytest.mark.parametrize(
    ("change", "headline"),
    [
        ({"num_units_done_before": 40, "num_units_committed": 0}, "Nothing to do: everything is done already"),
        ({"state": "interrupted"}, "Interrupted after 7 min 12 s; run the same command again to go on from here"),
        ({"state": "failed", "reason": "all workers died"}, "Failed after 7 min 12 s: all workers died"),
    ],
)
def test_headlines(change: dict[str, object], headline: str) -> None:
    assert printed(summary(replace(END, **change))).splitlines()[0] == headline  # type: ignore[arg-type]


def test_places_are_never_wrapped() -> None:
    url = "s3://labels/" + "x" * 200
    shown = printed(summary(replace(END, output_url=url)))
    assert f"output      {url}\n" in shown
    assert f'pd.read_parquet("{url}")\n' in shown


def test_rows_in_quarantine_and_files_that_are_gone_are_told_at_the_end() -> None:
    shown = printed(summary(replace(END, num_quarantined_rows=2, num_gone_files=3, num_pruned_files=1)))
    assert "2  rows that could not be done" in shown
    assert "3  files no longer in the input; the rows stay, --prune removes them" in shown
    assert "1  files no longer in the input; the rows were removed" in shown
    assert "/out/_shardmill/quarantine/" in shown


def test_a_retry_of_a_job_that_is_not_finished_says_that_there_is_more() -> None:
    left = replace(END, num_units_done_before=30, num_units_committed=2)
    assert "Tried again in 7 min 12 s; run the job to do the rest of it" in printed(summary(left))
    assert "Done in" in printed(summary(replace(left, num_quarantined_units=6, num_quarantined_rows=2)))
