"""Whether a worker's memory stays flat as the corpus grows tenfold, and whether the speeds of two workers add up.

    python tests/bench/scaling.py
    python tests/bench/scaling.py --check workers --rows 2000 --rounds 5

Whole jobs on a local Ray. Memory is that of a worker with a small bundled model on a tenth of `--rows`, on `--rows` and
on ten times as many. Two workers of one thread each are set against one, in turns, with a model of base size; the time
is counted from when the last worker is ready.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import JobSpec, demo, run
from jobs.bench import english, write_base_model
from jobs.spec import parse_task
from pipeline.events import Event, RunSummary, WorkerReady

ROW_GROUP_ROWS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", choices=("memory", "workers"), nargs="+", default=["memory", "workers"])
    parser.add_argument("--rows", type=int, help="default: 20,000 for memory, 2,000 for workers")
    parser.add_argument("--rounds", type=int, default=3, help="of the workers' check")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in arguments.check:
            check_memory(arguments.rows or 20_000, Path(folder))
        if "workers" in arguments.check:
            check_workers(arguments.rows or 2000, arguments.rounds, Path(folder))


def check_memory(num_rows: int, folder: Path) -> None:
    """Prints a worker's peak memory on corpora of several sizes."""
    model = next(job.model for job in demo.jobs() if job.name == "topics")
    print("| rows | tokens | peak memory of the worker | tokens/s |\n|---:|---:|---:|---:|")
    for size in (num_rows // 10, num_rows, 10 * num_rows):
        end, _ = job(write_corpus(folder / f"corpus-{size}", size), model, folder / f"labels-{size}", num_workers=1)
        print(
            f"| {end.num_rows:,} | {end.num_tokens:,} | {end.peak_worker_memory_bytes / 1e6:,.0f} MB "
            f"| {end.tokens_per_s:,.0f} |",
            flush=True,
        )
    print()


def check_workers(num_rows: int, rounds: int, folder: Path) -> None:
    """Prints the speeds of one worker and of two, in every round anew."""
    model = folder / "model"
    write_base_model(model, parse_task({"type": "classify"}))
    corpus = write_corpus(folder / "corpus", num_rows)
    print("| round | one worker, tokens/s | two workers, tokens/s | ratio |\n|---:|---:|---:|---:|")
    ratios = []
    for number in range(1, rounds + 1):
        speeds = [job(corpus, model, folder / f"out-{number}-{count}", num_workers=count)[1] for count in (1, 2)]
        ratios.append(speeds[1] / speeds[0])
        print(f"| {number} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nratio: median {median(ratios):.2f}\n")


def job(corpus: Path, model: Path, output: Path, *, num_workers: int) -> tuple[RunSummary, float]:
    """Runs a job with workers of one thread; gives its end, and tokens a second since the last worker was ready."""
    ready: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, WorkerReady):
            ready.append(time.time())

    spec: dict[str, Any] = {
        "name": "scaling",
        "input": {"url": str(corpus)},
        "output": {"url": str(output)},
        "model": {"path": str(model)},
        "task": {"type": "classify"},
        "workers": {"min": num_workers, "max": num_workers, "cpus": 1},
    }
    end = run(JobSpec.from_dict(spec), on_event=listen)
    if end.exit_code or len(ready) != num_workers:
        raise SystemExit(f"the job ended as {end.state}: {end.reason}, with {len(ready)} workers")
    return end, end.num_tokens / (end.updated_at - ready[-1])


def write_corpus(folder: Path, num_rows: int) -> Path:
    """English texts in Parquet files of some thousand rows."""
    folder.mkdir()
    for number, batch in enumerate(islice(english(), -(-num_rows // 1024))):
        rows = pa.table({"text": batch.slice(0, num_rows - number * 1024)})
        pq.write_table(rows, folder / f"{number:05d}.parquet", row_group_size=ROW_GROUP_ROWS)
    return folder


if __name__ == "__main__":
    main()
