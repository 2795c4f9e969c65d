"""The installed command in processes of its own: what a user types, and what the shell gets back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.hf_pipelines import NER_LABELS, build_byte_level_tokenizer, build_model
from tests.support.reference import v4

COMMAND = Path(sys.executable).with_name("shardmill")
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    v4(build_model, folder, "RobertaForTokenClassification", id2label=dict(enumerate(NER_LABELS)))
    v4(build_byte_level_tokenizer, folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", num_rows=200)


def write_corpus(path: Path, *, num_rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in range(num_rows):
            text = None if row % 50 == 7 else f"Ada Lovelace met number {row} in London. " * (1 + row % 5)
            file.write(json.dumps({"id": row, "text": text}) + "\n")
    return path


def shardmill(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def ner(model: Path, corpus: Path, output: Path) -> list[object]:
    return ["ner", "--model", model, "--input", corpus, "--output", output, "--keep", "id"]


def test_a_wrong_command_line_and_a_wrong_file(tmp_path: Path) -> None:
    assert shardmill("--help").returncode == 0
    assert shardmill("rum").returncode == 2
    missing = shardmill("run", tmp_path / "job.yaml")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: ")
    assert shardmill("status", tmp_path).returncode == 4


def test_output_into_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    shown = subprocess.run(f"{COMMAND} run --help | head -1", shell=True, capture_output=True, text=True, check=True)
    assert shown.stderr == ""


def test_a_preview_is_a_table_and_writes_nothing(model: Path, corpus: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        f"name: try\ninput: {{url: {corpus}}}\noutput: {{url: {tmp_path}/out, keep: [id]}}\n"
        f"model: {{path: {model}}}\ntask: {{type: ner}}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    shown = shardmill("preview", job, "-n", "9")
    assert shown.returncode == 0, shown.stderr
    assert "text is null" in shown.stdout
    assert "Ada Lovelace met number 8 in London." in shown.stdout
    assert "number 9" not in shown.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_from_its_first_run_to_a_broken_folder(model: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = shardmill(*ner(model, corpus, output))
    assert first.returncode == 0, first.stderr
    assert "Done in" in first.stdout
    assert f'pd.read_parquet("{output}")' in first.stdout
    assert first.stderr == ""
    assert pq.read_table(output)["id"].to_pylist() == list(range(200))

    again = shardmill(*ner(model, corpus, output))
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout

    assert shardmill("verify", output).returncode == 0
    assert "done" in shardmill("status", output).stdout

    other = shardmill(*ner(model, corpus, output), "--aggregation", "none")
    assert other.returncode == 5
    assert "belongs to another job" in other.stderr

    next(output.glob("part-*.parquet")).unlink()
    assert shardmill("verify", output).returncode == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "how", "times"),
    [
        ("_shardmill/runs/*.json", signal.SIGTERM, 1),
        ("part-*.parquet", signal.SIGINT, 1),
        ("part-*.parquet", signal.SIGTERM, 2),
    ],
    ids=["while Ray starts", "at work", "at work, twice"],
)
def test_an_interrupted_job_ends_with_130_says_so_and_goes_on(
    model: Path, tmp_path: Path, when: str, how: signal.Signals, times: int
) -> None:
    output = tmp_path / "out"
    num_rows = 5000
    corpus = write_corpus(tmp_path / "corpus.jsonl", num_rows=num_rows)
    arguments = [*ner(model, corpus, output), "--set", "input.unit_bytes=20000"]
    with subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + TIMEOUT_S
        while not list(output.glob(when)):
            assert process.poll() is None, "the run was over before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(times):
            process.send_signal(how)
            time.sleep(0.1)
        told, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, errors
    assert "Interrupted after" in told
    assert "run the same command again" in told
    assert "interrupted" in shardmill("status", output).stdout
    num_parts = len(list(output.glob("part-*.parquet")))

    again = shardmill(*arguments)
    assert again.returncode == 0, again.stderr
    assert (num_parts == 0) == ("already done" not in again.stdout)
    assert pq.read_table(output)["id"].to_pylist() == list(range(num_rows))


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_from_start_to_end_and_again(tmp_path: Path) -> None:
    output = tmp_path / "demo-output"
    first = shardmill("demo", "--output", output)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("Done in") == 5
    assert "→PER" in first.stdout
    assert "closest by embedding" in first.stdout
    assert "texts keep their label" in first.stdout
    assert "What to type next" in first.stdout
    assert first.stderr == ""
    again = shardmill("demo", "--output", output)
    assert again.returncode == 0
    assert again.stdout.count("Nothing to do") == 5
    for name in ("topics", "ner", "embed", "zh_topics", "zh_ner"):
        assert shardmill("verify", output / name).returncode == 0
