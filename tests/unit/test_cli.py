"""The command line: options and their twins, exit codes, and what is printed where. Ray is not started here."""

import inspect
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner, Result

import jobs.api
from jobs import cli
from jobs.flags import TWINS
from jobs.screen import OUR_PACKAGES, StderrHandler
from jobs.spec import JobSpec, parse_task
from models.errors import ModelNotFound
from pipeline.errors import InputNotFound, OutputConflict, SpecError, StorageUnavailable, WorkerError
from pipeline.events import RunSummary
from pipeline.storage import Storage
from tests.support.labelled import labelled_folder
from tests.support.s3 import S3Bucket

COMMANDS = ("demo", "run", "retry", "classify", "embed", "ner", "plan", "preview", "status", "verify", "bench")
KINDS = ("classify", "embed", "ner")
JOB = """
name: a-job
input: {url: CORPUS, text: body, unit_bytes: 100}
output: {url: OUTPUT, keep: [id]}
model: {path: MODEL}
task: {type: ner}
"""


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in OUR_PACKAGES}
    yield
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file over a corpus of ten rows. Its model is not there."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": row, "body": f"text {row}"}) + "\n" for row in range(10)))
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("CORPUS", str(corpus)).replace("OUTPUT", str(tmp_path / "out")))
    return path


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[JobSpec]:
    """The specs that commands would run."""
    taken: list[JobSpec] = []

    def run(spec: JobSpec, *, on_event: Callable[..., Any] | None = None) -> RunSummary:
        taken.append(spec)
        return summary()

    monkeypatch.setattr(jobs.api, "run", run)
    return taken


def summary(**changes: Any) -> RunSummary:
    values: dict[str, Any] = {
        "run_id": "r",
        "state": "done",
        "output_url": "/out",
        "started_at": 0.0,
        "updated_at": 9.0,
    }
    return RunSummary(**(values | {"num_units": 2, "num_units_committed": 2, "num_rows": 20} | changes))


def shardmill(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(cli.app, [str(argument) for argument in arguments])


def test_the_commands_are_those_of_the_design() -> None:
    assert tuple(typer.main.get_command(cli.app).commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_name_the_command(command: str) -> None:
    result = shardmill(command, "--help")
    assert result.exit_code == 0
    assert f"shardmill {command}" in result.stdout.split("Examples", 1)[1]


def options(command: str) -> dict[str, Any]:
    """A command's parameters and their types, but for those that every command has."""
    function = getattr(cli, command)
    hints = get_type_hints(function)
    common = {"ctx", "overrides", "verbose", "debug", "return"}
    return {name: hints[name] for name in inspect.signature(function).parameters if name not in common}


def choices(annotation: Any) -> set[str]:
    """The words that an annotation allows."""
    members = get_args(annotation)
    return {word for member in members for word in ({member} if isinstance(member, str) else choices(member))}


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_a_twin_in_the_job_file(kind: str) -> None:
    task = type(parse_task({"type": kind}))
    for name, hint in options(kind).items():
        *sections, key = TWINS[name].split(".")
        section: Any = JobSpec
        for part in sections:
            section = task if part == "task" else section.model_fields[part].annotation
        field = section.model_fields[key]
        assert choices(hint) in (set(), choices(field.annotation)), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_task_has_an_option(kind: str) -> None:
    keys = set(type(parse_task({"type": kind})).model_fields) - {"type"}
    given = {TWINS[name].removeprefix("task.") for name in options(kind) if TWINS[name].startswith("task.")}
    assert given == keys


def test_options_build_the_spec_that_a_file_would(specs: list[JobSpec]) -> None:
    result = shardmill(
        "classify", "--model", "m", "--input", "a.csv", "--input", "b.csv", "--output", "out", "--text-column", "body",
        "--keep", "id", "--keep", "url", "--top-k", "3", "--gpus", "0.5", "--max-workers", "4", "--name", "night",
        "--set", "input.storage.anon=true", "--set", "limits.bad_units=2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert specs == [
        JobSpec.from_dict(
            {
                "name": "night",
                "input": {"url": ["a.csv", "b.csv"], "text": "body", "storage": {"anon": True}},
                "output": {"url": "out", "keep": ["id", "url"]},
                "model": {"path": "m"},
                "task": {"type": "classify", "top_k": 3},
                "workers": {"max": 4, "gpus": 0.5},
                "limits": {"bad_units": 2},
            }
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (("classify", "--top-k", "all", "--function-to-apply", "none"), {"top_k": "all", "function_to_apply": "none"}),
        (("embed", "--no-normalize", "--dimensions", "64"), {"normalize": False, "dimensions": 64}),
        (("embed", "--embedding-dtype", "float16", "--prefix", "query: "), {"dtype": "float16", "prefix": "query: "}),
        (("ner", "--ignore-labels", "O", "--ignore-labels", "MISC"), {"ignore_labels": ["O", "MISC"]}),
        (("ner",), {}),
    ],
)
def test_options_of_the_tasks(specs: list[JobSpec], arguments: tuple[str, ...], task: dict[str, Any]) -> None:
    result = shardmill(*arguments, "--model", "m", "--input", "a.csv", "--output", "out")
    assert result.exit_code == 0, result.output
    (spec,) = specs
    assert spec.name == arguments[0]
    assert spec.task == parse_task({"type": arguments[0], **task})


def test_run_takes_a_file_and_overrides(job: Path, specs: list[JobSpec]) -> None:
    assert shardmill("run", job, "--set", "workers.max=4", "--set", "task.aggregation=first").exit_code == 0
    assert specs[0].workers.max == 4
    assert specs[0].task == parse_task({"type": "ner", "aggregation": "first"})


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (SpecError("input.url: expected text"), 2, "error: input.url: expected text\n"),
        (InputNotFound("nothing there"), 4, "error: nothing there\n"),
        (StorageUnavailable("the store does not answer"), 4, "error: the store does not answer\n"),
        (ModelNotFound("no such folder"), 4, "error: no such folder\n"),
        (OutputConflict("another job's"), 5, "error: another job's\n"),
        (WorkerError("all workers were lost"), 1, "error: all workers were lost\n"),
        (KeyboardInterrupt(), 130, "run the same command again"),
    ],
)
def test_exit_codes_of_errors(
    job: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, words: str
) -> None:
    def run(spec: JobSpec, *, on_event: object) -> RunSummary:
        raise error

    monkeypatch.setattr(jobs.api, "run", run)
    result = shardmill("run", job)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("end", "exit_code", "words"),
    [
        ({}, 0, "Done in 9.0 s"),
        ({"exit_code": 3, "num_errors": 9}, 3, "more went wrong than the job's limits allow"),
        ({"exit_code": 130, "state": "interrupted"}, 130, "Interrupted after 9.0 s"),
    ],
)
def test_exit_codes_of_runs(
    job: Path, monkeypatch: pytest.MonkeyPatch, end: dict[str, Any], exit_code: int, words: str
) -> None:
    monkeypatch.setattr(jobs.api, "run", lambda spec, on_event: summary(**end))
    result = shardmill("run", job)
    assert result.exit_code == exit_code
    assert words in result.stdout


def break_down(spec: JobSpec, *, on_event: object) -> RunSummary:
    raise KeyError("text of the corpus")


def test_our_own_bugs_leave_a_trace_in_a_file_and_quote_nothing(
    job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs.api, "run", break_down)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = shardmill("run", job)
    assert result.exit_code == 1
    assert re.match(r"error: a bug of shardmill, not of yours: KeyError in jobs/cli\.py, line \d+\n", result.stderr)
    assert "text of the corpus" not in result.stderr
    (trace,) = tmp_path.glob("shardmill-*.log")
    assert str(trace) in result.stderr
    assert "text of the corpus" in trace.read_text()


def test_debug_prints_the_trace(job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs.api, "run", break_down)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = shardmill("run", job, "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("arguments", [("rum",), ("run",), ("preview", "job.yaml", "-n", "0"), ("ner", "--model", "m")])
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    assert shardmill(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("setting", "exit_code", "words"),
    [
        ("input.url=/nowhere/corpus.jsonl", 4, r"error: .*/nowhere/corpus\.jsonl"),
        ("input.txt=body", 2, r"error: .*input\.txt: unknown key; did you mean text\?"),
        ("input.text=bodi", 4, r"error: input\.text: no column 'bodi' in .*; it has: id, body\. Did you mean 'body'\?"),
        ("task.type=nre", 2, r"error: .*task\.type: expected one of .* did you mean ner\?"),
    ],
)
def test_newcomers_mistakes(job: Path, setting: str, exit_code: int, words: str) -> None:
    result = shardmill("plan", job, "--set", setting)
    assert result.exit_code == exit_code
    assert re.match(words, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1


def test_a_job_file_that_is_not_there(job: Path) -> None:
    result = shardmill("run", job.with_name("jbo.yaml"))
    assert result.exit_code == 2
    assert result.stderr == f"error: {job.parent}/jbo.yaml: no such file; did you mean job.yaml?\n"


def test_plan_says_what_would_be_done_and_writes_nothing(job: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = shardmill("plan", job)
    assert result.exit_code == 0, result.stderr
    assert "a-job" in result.stdout
    assert re.search(r"files +1 ", result.stdout)
    assert re.search(r"units +3 ", result.stdout)
    assert result.stdout.count("corpus.jsonl") == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_knows_what_earlier_runs_have_planned(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path)
    folder.part(0).unlink()
    (tmp_path / "e.csv").write_text("id,weight,text\n1,2,three\n")
    job = tmp_path / "job.yaml"
    job.write_text(
        f"name: by-hand\ninput: {{url: [{tmp_path}/*.parquet, {tmp_path}/e.csv], unit_bytes: 100}}\n"
        f"output: {{url: {folder.output.url}, keep: [id, weight]}}\nmodel: {{path: m}}\ntask: {{type: classify}}\n"
    )
    shown = shardmill("plan", job)
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"files +5 ", shown.stdout)
    assert re.search(r"before +4 +units of 4 files, 1 unit to do", shown.stdout)
    assert re.search(r"new units +1 ", shown.stdout)


def test_status_and_verify_of_a_good_folder(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path).output.url
    status = shardmill("status", folder)
    assert status.exit_code == 0
    assert "4/4 units (100%)" in status.stdout
    verify = shardmill("verify", folder)
    assert verify.exit_code == 0
    assert "all of it holds" in verify.stdout


def test_verify_of_a_damaged_folder(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path)
    folder.part(0).unlink()
    for flags in ((), ("--quick",)):
        result = shardmill("verify", folder.output.url, *flags)
        assert result.exit_code == 1
        assert "does not hold" in result.stdout


def test_status_and_verify_of_a_folder_in_a_bucket(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    local = Path(labelled_folder(tmp_path).output.url)
    bucket = Storage.open(s3_bucket.url, s3_bucket.options)
    for path in local.rglob("*"):
        if path.is_file():
            bucket.put_file(path, f"labels/{path.relative_to(local).as_posix()}")
    flags = [flag for key, value in s3_bucket.options.items() for flag in ("--set", f"output.storage.{key}={value}")]
    status = shardmill("status", f"{s3_bucket.url}/labels", *flags)
    assert status.exit_code == 0, status.stderr
    assert "4/4 units (100%)" in status.stdout
    verify = shardmill("verify", f"{s3_bucket.url}/labels/", *flags)
    assert verify.exit_code == 0, verify.output
    assert s3_bucket.options["secret"] not in status.output + verify.output


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_folder_that_is_not_ours(command: str, tmp_path: Path) -> None:
    result = shardmill(command, tmp_path)
    assert result.exit_code == 4
    assert "not an output folder of shardmill" in result.stderr


def test_status_takes_no_other_key_than_storage_options(tmp_path: Path) -> None:
    result = shardmill("status", tmp_path, "--set", "output.url=elsewhere")
    assert result.exit_code == 2
    assert "expected input.storage.OPTION=VALUE or output.storage.OPTION=VALUE" in result.stderr


@pytest.mark.parametrize(("flags", "told"), [((), False), (("-v",), True)])
def test_verbose_tells_more_on_stderr(
    job: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], told: bool
) -> None:
    def run(spec: JobSpec, *, on_event: object) -> RunSummary:
        logging.getLogger("pipeline.run").info("looked at the folder")
        logging.getLogger("pipeline.run").warning("left out a file")
        logging.getLogger("botocore").info("looked at credentials")
        return summary()

    monkeypatch.setattr(jobs.api, "run", run)
    result = shardmill("run", job, *flags)
    assert "warning: left out a file\n" in result.stderr
    assert ("info: looked at the folder\n" in result.stderr) == told
    assert "credentials" not in result.stderr
    assert sum(isinstance(handler, StderrHandler) for handler in logging.getLogger().handlers) == 1


def test_help_and_status_load_no_heavy_library() -> None:
    code = (
        "import sys, jobs.cli, jobs.reports, pipeline.status; print([n for n in ('torch', 'ray') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
