"""`shardmill bench`: the figures are there and agree with each other. How large they are is no test's business."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from jobs import cli, demo
from jobs.bench import MAX_TOKENS, MAX_WORDS, MEDIAN_WORDS, bench, english, write_base_model
from jobs.spec import parse_task
from models import load_config, load_tokenizer
from pipeline import bench as measuring
from pipeline import ceiling
from pipeline.bench import BenchResult
from pipeline.errors import InputNotFound
from pipeline.sizing import attention_flops_per_token, flops_per_token
from tests.support.stubs import stub_config

MODELS = {job.name: str(job.model) for job in demo.jobs()}
STAGES = {"read", "tokenize", "wait", "forward", "decode", "write", "commit"}
RATE = 1e12


@pytest.fixture(autouse=True)
def _known_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "matmul_rate", lambda device, dtype, seconds: RATE)


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Forty rows, one of them null and one blank."""
    path = tmp_path / "corpus.jsonl"
    texts = [None, " ", *(f"Ada Lovelace lived in London for {row} years." for row in range(38))]
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    return path


def of(corpus: Path, *, task: str = "ner", model: str = "ner", dtype: str = "auto") -> BenchResult:
    return bench(
        model=MODELS[model], task=task, urls=[str(corpus)], text_column="body", dtype=dtype, gpus=0, cpus=1, seconds=0.1
    )


def test_the_figures_agree(corpus: Path) -> None:
    found = of(corpus)
    assert found.forward.num_rows == found.end_to_end.num_rows == 40
    assert found.forward.num_tokens == found.end_to_end.num_tokens > 38 * 5
    assert found.ceiling == RATE
    assert len(found.matmul_rates) == 3
    assert found.ceiling_tokens_per_s * found.flops_per_token == pytest.approx(RATE)
    assert found.share_of_ceiling(found.forward) == pytest.approx(
        found.forward.tokens_per_s * found.flops_per_token / RATE
    )
    assert set(found.stage_s) >= STAGES
    assert found.wait_s + found.stage_s["forward"] == pytest.approx(found.end_to_end.seconds)
    assert all(0 <= seconds <= found.end_to_end.seconds for seconds in found.stage_s.values())
    assert found.peak_memory_bytes > 0
    assert found.num_threads == 1


def test_as_many_rows_as_there_is_time_for() -> None:
    found = bench(model=MODELS["embed"], gpus=0, cpus=1, seconds=0.3)
    assert found.end_to_end.num_rows >= measuring.FIRST_ROWS
    assert found.end_to_end.num_tokens > found.end_to_end.num_rows


def test_float32_is_not_compared_with_itself(corpus: Path) -> None:
    assert of(corpus, dtype="float32").accuracy is None


@pytest.mark.parametrize("name", ["embed", "topics", "ner"])
def test_lower_precision_is_compared(corpus: Path, name: str) -> None:
    task = {"topics": "classify"}.get(name, name)
    accuracy = of(corpus, task=task, model=name, dtype="bfloat16").accuracy
    assert accuracy is not None
    assert accuracy.num_rows == 40
    if task == "ner":
        assert accuracy.least_cosine is None
    else:
        assert 0.99 < (accuracy.least_cosine or 0) < 1.0001
    if task == "embed":
        assert accuracy.label_agreement is None
    else:
        assert 0.9 <= (accuracy.label_agreement or 0) <= 1


def test_input_without_text(tmp_path: Path) -> None:
    path = tmp_path / "blank.jsonl"
    path.write_text('{"body": " "}\n' * 3)
    with pytest.raises(InputNotFound, match="the first 3 rows have no text"):
        of(path)


def test_the_command_prints_every_figure(corpus: Path) -> None:
    arguments = ["bench", "--model", MODELS["ner"], "--task", "ner", "--input", str(corpus), "--text-column", "body",
                 "--dtype", "bfloat16", "--gpus", "0", "--cpus", "1", "--seconds", "0.1"]  # fmt: skip
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    for words in ("tokens/s", "rows/s", "TFLOP/s", "of the ceiling", "forward alone", "end to end", "padding", "memory",
                  "wait", "labels", "bfloat16", "1 thread of", *STAGES):  # fmt: skip
        assert words in result.stdout, words


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("--model", "no/such/folder/here"), 4, "no/such/folder/here"),
        (("--model", MODELS["ner"], "--task", "classify"), 4, "sequence-classification"),
        (("--model", MODELS["ner"], "--input", "no-such-file.csv"), 4, "no-such-file.csv"),
        (("--task", "translate"), 2, "translate"),
        (("--seconds", "0"), 2, "--seconds"),
        (("--model", MODELS["ner"], "--input", "https://host/x.csv?sig=hush"), 2, "input: url"),
        (("--model", "https://host/model?sig=hush"), 2, "model: path"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], exit_code: int, words: str) -> None:
    result = CliRunner().invoke(cli.app, ["bench", "--gpus", "0", "--cpus", "1", *arguments])
    assert result.exit_code == exit_code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "hush" not in result.stderr


def test_the_model_that_is_made_is_of_base_size(tmp_path: Path) -> None:
    write_base_model(tmp_path, parse_task({"type": "embed"}))
    config = load_config(tmp_path)
    assert (config.hidden_size, config.num_hidden_layers, config.max_tokens) == (768, 12, MAX_TOKENS)
    assert load_tokenizer(tmp_path).model_max_length == MAX_TOKENS
    assert flops_per_token(config) == pytest.approx(2 * 85e6, rel=0.01)


def test_the_text_that_is_made() -> None:
    texts = [text for _, batch in zip(range(4), english(), strict=False) for text in batch.to_pylist()]
    lengths = [len(text.split()) for text in texts]
    assert np.median(lengths) == pytest.approx(MEDIAN_WORDS, rel=0.1)
    assert max(lengths) <= MAX_WORDS
    assert len(set(texts)) > 0.99 * len(texts)
    assert texts == [text for _, batch in zip(range(4), english(), strict=False) for text in batch.to_pylist()]


def test_operations_of_a_token() -> None:
    config = stub_config(hidden_size=4, num_hidden_layers=3, intermediate_size=8)
    assert flops_per_token(config) == 2 * 3 * (4 * 16 + 2 * 32)
    # Of two tokens that see two each, and one that sees itself.
    assert attention_flops_per_token(config, np.array([2, 1])) == pytest.approx(4 * 3 * 4 * 5 / 3)


def test_the_rate_is_that_of_the_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceiling._SHAPES, "cpu", ((8, 8, 8), (64, 64, 64)))
    assert ceiling.matmul_rate(torch.device("cpu"), torch.float32, seconds=0) > 0


def test_no_text_at_all() -> None:
    with pytest.raises(InputNotFound):
        measuring._Rows(iter([])).first(1)
    rows = measuring._Rows(iter([pa.array(["a", "b"]), pa.array(["c"])]))
    assert rows.first(1).to_pylist() == ["a"]
    assert rows.first(9).to_pylist() == ["a", "b", "c"]
