"""What `shardmill demo` shows, without running its jobs."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
from rich.cells import cell_len
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


def test_pairs_stand_together_with_how_many_keep_their_label() -> None:
    rows = pa.table(
        {
            "id": ["a", "b", "c", "d", "e"],
            "original": [None, "a", None, "c", None],
            "text": ["打羽毛球", "打羽毛求", "房贷利率", "房代利律", "看日出"],
            "label": ["体育", "体育", "财经", "旅游", "旅游"],
            "score": [0.9, 0.8, 0.9, 0.4, 0.9],
        }
    )
    console = Console(file=io.StringIO(), width=90)
    console.print(tour.pairs_table(rows, "text"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().rstrip().splitlines()
    rows_shown = [line.split() for line in lines if line.startswith("│")]
    assert [cells[1] for cells in rows_shown] == ["打羽毛球", "打羽毛求", "房贷利率", "房代利律"]
    table_lines = [line for line in lines if line[0] in "┏┃┡│├└"]
    assert len({cell_len(line) for line in table_lines}) == 1, "a wide character takes two cells"
    caption = " ".join(line.strip() for line in lines if line not in table_lines)
    assert caption.startswith("1 of 2 texts keep their label")
