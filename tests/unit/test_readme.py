"""README.md, held against what it describes."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.cli import app
from jobs.registry import AnyTask
from jobs.spec import JobSpec
from pipeline import errors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted({*ROOT.glob("*.md"), *(page for room in ("models", "pipeline", "jobs", "infra", "tests")
                                      for page in (ROOT / room).rglob("*.md"))})  # fmt: skip

KINDS: dict[str, type[BaseModel]] = {kind.model_fields["type"].default: kind for kind in get_args(get_args(AnyTask)[0])}
Table = list[list[str]]


def tables(text: str) -> Iterator[Table]:
    """The rows of every table, without the line that is its rule."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def after(heading: str) -> Table:
    """The rows below the head of the first table after this text."""
    return next(tables(README[README.index(heading) :]))[1:]


def code(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def as_written(field: FieldInfo) -> str:
    """A default as README's tables show it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default == () or default == {}:
        return "none"
    if isinstance(default, str) and default:
        return f"`{default}`"
    return f"`{json.dumps(default)}`"


def options(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    return {f"`{prefix}{name}`": as_written(field) for name, field in model.model_fields.items()}


def test_the_job_file_has_the_keys_and_defaults_that_the_table_says() -> None:
    expected = {"`task.type`": "required"}
    for name, field in JobSpec.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            expected |= options(field.annotation, prefix=f"{name}.")
        elif name != "task":
            expected[f"`{name}`"] = as_written(field)
    assert {key: default for key, default, _ in after("\n## Job file\n")} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_job_has_the_keys_and_defaults_that_its_table_says(kind: str) -> None:
    expected = options(KINDS[kind])
    del expected["`type`"]
    assert {key: default for key, default, _ in after(f"\n`type: {kind}` gives")} == expected


@pytest.mark.parametrize("example", code("yaml"))
def test_example_job_files_are_valid(example: str) -> None:
    values: dict[str, Any] = yaml.safe_load(example)
    assert JobSpec.from_dict(values).name == values["name"]


@pytest.mark.parametrize("example", code("python"))
def test_example_programs_import_what_is_there(example: str) -> None:
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing


def test_the_command_line_is_as_the_table_says() -> None:
    cells = [row[0] for row in after("\n## Command line\n")]
    told = {command for cell in cells for command in re.findall(r"`(?:shardmill )?([a-z]+)", cell)}
    assert told == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_exit_codes_are_as_the_table_says() -> None:
    told = {int(code) for code, _ in after("| exit code")}
    raised = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ShardmillError)
    }
    assert raised | {0, 3, 130} == told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`([\w./-]+\.(?:py|md|yaml)|(?:models|pipeline|jobs|infra|tests)/[\w./-]*)`", text):
        if "_shardmill" not in name:
            assert (ROOT / name).exists() or any(page.parent.rglob(name)), name
