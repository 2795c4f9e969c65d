"""The shape of the house: which way imports go, what may be used where, and what lies at the top."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "pipeline", "jobs")
PRODUCT = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# What each floor may import, beside the standard library and itself.
MODELS_MAY_IMPORT = {"torch", "numpy", "safetensors", "tokenizers", "rjieba", "huggingface_hub", "h5py", "msgpack"}
FLOORS = {"models": set(), "pipeline": {"models"}, "jobs": {"models", "pipeline"}}
# Libraries with one home. The drivers behind fsspec count as fsspec.
HOMES = {
    "ray": "pipeline/pool.py",
    "fsspec": "pipeline/storage.py",
    "s3fs": "pipeline/storage.py",
    "gcsfs": "pipeline/storage.py",
    "adlfs": "pipeline/storage.py",
}
MAY_PRINT = {"jobs/cli.py", "jobs/display.py"}
TOP_LEVEL = {*PACKAGES, "tests", "infra", "pyproject.toml", "README.md", "Makefile", ".ci", ".gitignore"}
MOST_LINES = 500

each_file = pytest.mark.parametrize("path", PRODUCT, ids=str)


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all imports, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield (node.module or "").partition(".")[0]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name as written, such as "torch.load"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()]


@each_file
def test_imports_go_down(path: Path) -> None:
    floor = path.parts[0]
    ours = {name for name in imported(parse(path)) if name in {*PACKAGES, "tests"}} - {floor}
    assert ours <= FLOORS[floor]


@each_file
def test_libraries_stay_at_home(path: Path) -> None:
    names = set(imported(parse(path)))
    for library, home in HOMES.items():
        assert library not in names or path.as_posix() == home, f"{library} belongs to {home}"
    assert "transformers" not in names, "transformers is for tests only"
    if path.parts[0] == "models":
        others = names - set(sys.stdlib_module_names) - {"models"}
        assert others <= MODELS_MAY_IMPORT


@each_file
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    tree = parse(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pickle":
            assert [alias.name for alias in node.names] == ["UnpicklingError"]  # torch.load raises it
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assert not {"pickle", "cloudpickle", "dill", "marshal", "shelve"} & set(imported(node)), node.lineno
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    ours = {node.name for node in classes if [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]}
    for name, call in calls(tree):
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"line {call.lineno}"
        assert name not in {"eval", "exec", "yaml.unsafe_load", "yaml.full_load"}, where
        if name == "yaml.load":
            loader = arguments.get("Loader") or ast.unparse(call.args[-1])
            assert loader in {"yaml.SafeLoader", "yaml.BaseLoader", *ours}, where
        assert name != "torch.load" or arguments.get("weights_only") == "True", where
        assert arguments.get("allow_pickle", "False") == "False", where
        assert arguments.get("trust_remote_code", "False") == "False", where


@each_file
def test_only_the_command_line_prints(path: Path) -> None:
    if path.as_posix() not in MAY_PRINT:
        assert "print" not in {name for name, _ in calls(parse(path))}


@each_file
def test_files_stay_readable(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@each_file
def test_all_is_what_is_there(path: Path) -> None:
    tree = parse(path)
    targets = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    if "__all__" not in targets:
        return
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    promised = module.__all__
    assert len(promised) == len(set(promised))
    missing = [name for name in promised if not hasattr(module, name)]
    assert not missing
    if path.name == "__init__.py":
        imports = [
            node
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES
        ]
        reexported = {alias.asname or alias.name for node in imports for alias in node.names}
        forgotten = {public for public in reexported if not public.startswith("_")} - set(promised)
        assert not forgotten


def test_the_top_level_is_what_the_design_names() -> None:
    assert {path.parts[0] for path in tracked_files()} <= TOP_LEVEL


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    machine = re.compile(rb"(?<![\w.:/-])/(?:root|work|Users/\w+|home/(?!shardmill\b)\w+)/")
    offenders = [str(path) for path in tracked_files() if machine.search((ROOT / path).read_bytes())]
    assert not offenders


@pytest.mark.parametrize("package", [*PACKAGES, "infra"])
def test_every_room_says_what_it_is(package: str) -> None:
    assert (ROOT / package / "README.md").is_file()


def test_no_other_distribution_owns_our_names() -> None:
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, [])) <= {"shardmill"}, f"`{package}` is also installed by {owners[package]}"


def test_tests_are_not_named_like_our_packages() -> None:
    assert not {path.name for path in (ROOT / "tests").rglob("*") if path.is_dir()} & set(PACKAGES)
    assert not list((ROOT / "tests").rglob("__init__.py"))
