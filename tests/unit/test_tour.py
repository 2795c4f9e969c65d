"""What `shardmill demo` shows, without running its jobs."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from jobs import demo, tour
from jobs.spec import JobSpec


@pytest.mark.parametrize("job", demo.jobs(), ids=lambda job: job.name)
def test_the_demo_runs_the_bundled_files_as_they_are(job: demo.DemoJob, tmp_path: Path) -> None:
    """So that `shardmill run jobs/demo/ner.yaml` after `shardmill demo` finds the folder to be its own."""
    spec = tour.demo_spec(job, tmp_path)
    written = JobSpec.from_yaml(job.spec)
    assert spec.identity() == written.identity()
    assert Path(written.output.url).name == Path(spec.output.url).name == job.name
    for path in (spec.input.url[0], spec.model.path, spec.output.url):
        assert Path(path).is_absolute()


def test_neighbours_are_other_texts_nearest_first() -> None:
    rows = pa.table(
        {
            "text": ["a cat", "a dog", "a car", "a cat"],
            "embedding": pa.array([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [1.0, 0.0]], pa.list_(pa.float32(), 2)),
        }
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(tour.neighbours_table(rows, "text"))
    assert isinstance(console.file, io.StringIO)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.file.getvalue().splitlines()]
    first = cells.index(["a cat", "a dog", "0.99"])
    assert cells[first + 1] == ["", "a car", "0.00"]
    assert "1.00" not in console.file.getvalue()
