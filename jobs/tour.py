"""`shardmill demo`: small jobs from bundled text to tables on screen, and what to type next."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from jobs import demo
from jobs.api import run
from jobs.display import headline, run_display, summary
from jobs.preview import read_input
from jobs.spec import JobSpec
from jobs.tables import LabelStyles, results_table
from jobs.wording import one_line, plural

UNIT_BYTES = 6_000  # so that even the bundled text keeps two workers busy
NUM_SHOWN = 6  # rows of each result
NUM_ERRORS_SHOWN = 2
NUM_NEIGHBOURS = 2


def tour(output: Path, console: Console) -> None:
    """Runs the bundled jobs and shows some rows of each result.

    Args:
        output: the folder for the results, one folder a job; what is done already is not done again.

    Raises:
        typer.Exit: a job did not end well.
    """
    jobs = demo.jobs()
    console.print(Text(f"{plural(len(jobs), 'job')} on bundled text with bundled models, by two workers", style="bold"))
    specs = []
    for place, job in enumerate(jobs, start=1):
        spec = demo_spec(job, output)
        specs.append(spec)
        console.print(Text.assemble((f"\n{place}/{len(jobs)} {spec.name}", "bold cyan"), f"  {_shown(job.spec)}"))
        with run_display(console) as display:
            end = run(spec, on_event=display)
        if end.exit_code:
            console.print(summary(end))
            raise typer.Exit(end.exit_code)
        console.print(headline(end))
    for spec in specs:
        console.print()
        console.print(Rule(Text(f"{spec.name}: some rows of {_shown(spec.output.url)}"), align="left", style="dim"))
        console.print(_some_rows(spec))
    console.print(_what_next(specs, output))


def demo_spec(job: demo.DemoJob, output: Path) -> JobSpec:
    """The bundled spec with its paths made absolute, for the demo runs from any folder, and with small units."""
    places = {"input.url": job.corpus, "model.path": job.model, "output.url": output.absolute() / job.name}
    settings = [f"{key}={json.dumps(str(path))}" for key, path in places.items()]
    return JobSpec.from_yaml(job.spec, [*settings, f"input.unit_bytes={UNIT_BYTES}"])


def _some_rows(spec: JobSpec) -> RenderableType:
    results = pq.read_table(spec.output.url)
    if spec.input.text not in results.column_names:
        texts = pa.chunked_array([batch.texts for batch in read_input(spec.input, spec.output.keep)], pa.large_string())
        results = results.add_column(0, spec.input.text, texts)  # rows leave in the order in which they came
    good = results.filter(results["error"].is_null())
    if "embedding" in results.column_names:
        return neighbours_table(good, spec.input.text)
    if "original" in results.column_names:
        return pairs_table(good, spec.input.text)
    bad = results.filter(results["error"].is_valid())
    chosen = good.take(_spread(good.num_rows, NUM_SHOWN))
    return results_table(pa.concat_tables([chosen, bad.slice(0, NUM_ERRORS_SHOWN)]), text=spec.input.text)


def _spread(num_rows: int, num_chosen: int) -> npt.NDArray[np.int64]:
    """Row numbers at even distances."""
    return np.unique(np.linspace(0, num_rows - 1, min(num_chosen, num_rows)).astype(np.int64))


def neighbours_table(rows: pa.Table, text: str) -> Table:
    """Some texts, and the texts whose embeddings are closest to theirs."""
    texts = [one_line(value, 90) for value in rows[text].to_pylist()]
    vectors = np.stack(rows["embedding"].to_numpy())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = Table(header_style="bold")
    table.add_column(text, ratio=1)
    table.add_column("closest by embedding", ratio=1)
    table.add_column("cosine", justify="right")
    for row in _spread(len(texts), NUM_SHOWN).tolist():
        likeness = vectors @ vectors[row]
        others = [other for other in np.argsort(-likeness).tolist() if texts[other] != texts[row]][:NUM_NEIGHBOURS]
        cosines = "\n".join(f"{likeness[other]:.2f}" for other in others)
        closest = Text("\n".join(texts[other] for other in others), overflow="ellipsis", no_wrap=True)
        table.add_row(Text(texts[row]), closest, cosines, end_section=True)
    return table


def pairs_table(rows: pa.Table, text: str) -> Table:
    """Some texts with their labels, each above its variant with characters swapped, which are marked."""
    by_id = {row["id"]: row for row in rows.to_pylist()}
    pairs = [(by_id[row["original"]], row) for row in by_id.values() if row["original"]]
    num_same = sum(original["label"] == variant["label"] for original, variant in pairs)
    table = Table(
        header_style="bold",
        caption=f"{num_same} of {len(pairs)} texts keep their label with characters swapped for similar ones",
        caption_justify="left",
    )
    table.add_column(text, ratio=1)
    table.add_column("label")
    table.add_column("score", justify="right")
    styles = LabelStyles()
    for place in _spread(len(pairs), NUM_SHOWN).tolist():
        original, variant = pairs[place]
        swapped = Text()
        for old, new in zip(original[text], variant[text], strict=True):
            swapped.append(new, style="" if new == old else "bold yellow")
        table.add_row(Text(original[text]), *_label_and_score(original, styles))
        table.add_row(swapped, *_label_and_score(variant, styles), end_section=True)
    return table


def _label_and_score(row: Mapping[str, Any], styles: LabelStyles) -> tuple[Text, Text]:
    return Text(row["label"], style=styles(row["label"])), Text(f"{row['score']:.3f}")


def _what_next(specs: list[JobSpec], output: Path) -> Text:
    ner = next(spec for spec in specs if spec.task.type == "ner")
    folder = _shown(ner.output.url)
    command = "shardmill" if shutil.which("shardmill") else _shown(sys.argv[0])
    job = _shown(demo.FOLDER / "ner.yaml")
    steps = [
        (f"{command} verify {folder}", "proves that every row is there once, in order"),
        (
            f"""{_shown(sys.executable)} -c "import pandas as pd; print(pd.read_parquet('{folder}'))\"""",
            "plain Parquet",
        ),
        (f"{command} preview {job}", "the first rows, without writing anything"),
        (f"{command} run {job}", "the job file is worth a look: copy it for your own text"),
        (f"{command} --help", ""),
    ]
    lines = Text("\nWhat to type next\n", style="bold")
    for step, why in steps:
        lines.append(f"  {step}\n", style="not bold cyan")
        if why:
            lines.append(f"      {why}\n", style="not bold dim")
    lines.append(
        f"The results are in {_shown(output)}; remove it to see the demo from the start again.", style="not bold"
    )
    return lines


def _shown(path: str | Path) -> str:
    """A path as one would type it here."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)
