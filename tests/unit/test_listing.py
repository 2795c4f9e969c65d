"""From what users give to input files."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import HfFileSystem

from pipeline.errors import InputError, InputNotFound, SpecError, StorageError
from pipeline.listing import fixed_part, list_files
from pipeline.options import InputOptions
from pipeline.planner import input_schema
from pipeline.storage import Storage
from tests.support.corpora import WRITERS, planned, read_units
from tests.support.s3 import S3Bucket

TABLE = pa.table({"text": ["a", "b"]})
TREE = ("b.jsonl", "a/z.csv", "a/part-1.txt", "a/part-2.txt", "a/b/part-3.txt", "a.txt",
        ".hidden.jsonl", "_SUCCESS", "_shardmill/x.jsonl", "a/.git/x.jsonl")  # fmt: skip


@pytest.fixture(params=["local", "s3", "memory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The URL of a folder with `TREE` in it, and the options to reach it."""
    url, options = str(tmp_path), {}
    if request.param == "memory":
        url = f"memory:/{tmp_path}"
    elif request.param == "s3":
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        url, options = f"{bucket.url}/tree", bucket.options
    storage = Storage.open(url, options)
    for path in TREE:
        storage.write_bytes(path, b"{}")
    return storage.url, options


def listed(url: str | tuple[str, ...], root: str = "", **arguments: Any) -> list[str]:
    source = InputOptions(url=url, **arguments)  # type: ignore[arg-type]  # pydantic takes one URL too
    return [file.url.removeprefix(root + "/") for file in list_files(source)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.txt", "a/b/part-3.txt", "a/part-1.txt", "a/part-2.txt", "a/z.csv", "b.jsonl"]),
        ("/a", ["a/b/part-3.txt", "a/part-1.txt", "a/part-2.txt", "a/z.csv"]),
        ("/a/", ["a/b/part-3.txt", "a/part-1.txt", "a/part-2.txt", "a/z.csv"]),
        ("/b.jsonl", ["b.jsonl"]),
        ("/.hidden.jsonl", [".hidden.jsonl"]),
        ("/*", ["a.txt", "b.jsonl"]),
        ("/*.jsonl", ["b.jsonl"]),
        ("/.*", [".hidden.jsonl"]),
        ("/a/part-*.txt", ["a/part-1.txt", "a/part-2.txt"]),
        ("/a/part-[!1].txt", ["a/part-2.txt"]),
        ("/?/part-[12].txt", ["a/part-1.txt", "a/part-2.txt"]),
        ("/**/part-*", ["a/b/part-3.txt", "a/part-1.txt", "a/part-2.txt"]),
        ("/**", ["a.txt", "a/b/part-3.txt", "a/part-1.txt", "a/part-2.txt", "a/z.csv", "b.jsonl"]),
        ("/*/*/*.txt", ["a/b/part-3.txt"]),
        ("/_shardmill/*", ["_shardmill/x.jsonl"]),
    ],
)
def test_files_folders_and_globs(pattern: str, found: list[str], tree: tuple[str, dict[str, Any]]) -> None:
    root, options = tree
    assert listed(root + pattern, root, storage=options) == found


def test_urls_keep_their_order_and_a_file_comes_once(tree: tuple[str, dict[str, Any]]) -> None:
    root, options = tree
    urls = (f"{root}/b.jsonl", f"{root}/a/part-*", f"{root}/a", f"{root}/a/z.csv", root)
    assert listed(urls, root, storage=options) == [
        "b.jsonl", "a/part-1.txt", "a/part-2.txt", "a/b/part-3.txt", "a/z.csv", "a.txt",
    ]  # fmt: skip


def test_what_is_not_there_is_told(tree: tuple[str, dict[str, Any]]) -> None:
    root, options = tree
    for url in (f"{root}/nothing", f"{root}/nothing.txt", f"{root}/a.txt/x"):
        with pytest.raises(InputNotFound, match=f"input.url: no such file or folder, or nothing in it: {url}"):
            listed(url, storage=options)
    with pytest.raises(InputNotFound, match=r"input\.url: nothing matches .*/a/\*\.parquet"):
        listed(f"{root}/a/*.parquet", storage=options)


def test_a_bucket_that_is_not_there(s3_bucket: S3Bucket) -> None:
    for url in ("s3://no-such-bucket", "s3://no-such-bucket/x.jsonl", "s3://no-such-bucket/*.jsonl"):
        with pytest.raises(InputNotFound, match=r"input\.url: s3://no-such-bucket.* the bucket does not exist"):
            listed(url, storage=s3_bucket.options)


def test_a_folder_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="nothing in it"):
        listed(str(tmp_path))


def test_wildcards_may_be_part_of_a_local_name(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").touch()
    (tmp_path / "b*").mkdir()
    (tmp_path / "b*" / "x.txt").touch()
    assert listed(str(tmp_path / "a[1].txt"), str(tmp_path)) == ["a[1].txt"]
    assert listed(str(tmp_path / "b*"), str(tmp_path)) == ["b*/x.txt"]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/a/b.txt", ("s3://bucket/a/", "b.txt")),
        ("s3://bucket/a/*.txt", ("s3://bucket/a/", "*.txt")),
        ("s3://bucket/a-?/b/*.txt", ("s3://bucket/", "a-?/b/*.txt")),
        ("s3://bucket", ("s3://", "bucket")),
        ("/a/b", ("/a/", "b")),
    ],
)
def test_the_fixed_part_of_a_url(url: str, parts: tuple[str, str]) -> None:
    assert fixed_part(url) == parts


# Formats.


@pytest.mark.parametrize(
    ("name", "format", "compression"),
    [
        ("x.parquet", "parquet", None),
        ("x.snappy.parquet", "parquet", None),
        ("x.parquet.gz", "parquet", None),
        ("X.JSONL", "jsonl", None),
        ("x.ndjson", "jsonl", None),
        ("x.json.bz2", "jsonl", "bz2"),
        ("x.jsonl.gz", "jsonl", "gzip"),
        ("x.jsonl.zst", "jsonl", "zstd"),
        ("x.csv.xz", "csv", "xz"),
        ("x.v1.txt", "text", None),
    ],
)
def test_formats_by_name(name: str, format: str, compression: str | None, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    (file,) = list_files(InputOptions(url=str(tmp_path)))
    assert (file.format, file.compression) == (format, compression)


@pytest.mark.parametrize(
    ("name", "format"),
    [("x.parquet", "parquet"), ("x.arrow", "arrow"), ("x.arrows", "arrow-stream"), ("x.jsonl", "jsonl"),
     ("x.jsonl.gz", "jsonl"), ("x.jsonl.zst", "jsonl"), ("x.jsonl.bz2", "jsonl"), ("x.jsonl.xz", "jsonl")],
)  # fmt: skip
def test_formats_by_content(name: str, format: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(WRITERS[name](TABLE))
    source = InputOptions(url=str(tmp_path / "data"))
    (file,) = list_files(source)
    assert file.format == format
    units, _ = planned(source)
    assert [row["text"] for row in read_units(units, source)] == ["a", "b"]


def test_an_arrow_suffix_does_not_tell_file_from_stream(tmp_path: Path) -> None:
    (tmp_path / "x.arrow").write_bytes(WRITERS["x.arrows"](TABLE))
    (tmp_path / "y.arrow").write_bytes(WRITERS["x.arrow"](TABLE))
    for wanted in ("auto", "arrow"):
        files = list(list_files(InputOptions(url=str(tmp_path), format=wanted)))  # type: ignore[arg-type]
        assert [file.format for file in files] == ["arrow-stream", "arrow"]


def test_a_format_that_is_given_needs_no_telling_name(tmp_path: Path) -> None:
    (tmp_path / "part-0.log.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    source = InputOptions(url=str(tmp_path), format="text")
    units, _ = planned(source)
    assert [row["text"] for row in read_units(units, source)] == ["one", "two"]


@pytest.mark.parametrize("content", [b"id,text\n1,a\n", b"", b"\x1f\x8bnot gzip"])
def test_a_format_that_cannot_be_told(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_bytes(content)
    for url in (tmp_path / "data", tmp_path):
        with pytest.raises(SpecError, match=r"input\.format: .* set it to one of: parquet, arrow, jsonl, csv, text"):
            listed(str(url))
    (tmp_path / "x.txt").touch()
    assert listed(str(tmp_path), str(tmp_path)) == ["x.txt"]
    assert caplog.messages[-1] == f"passed over {tmp_path}/data: its format cannot be told"


# Data sets that were saved, and those on the Hub.


def upload(folder: Path, url: str, options: dict[str, Any]) -> str:
    storage = Storage.open(url, options)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.put_file(path, path.relative_to(folder).as_posix())
    return url


@pytest.mark.parametrize("wanted", ["auto", "datasets"])
@pytest.mark.parametrize("on_s3", [False, True])
def test_a_saved_data_set(wanted: Any, on_s3: bool, tmp_path: Path, s3_bucket: S3Bucket) -> None:
    texts = [f"row {number}" for number in range(1000)]
    Dataset.from_dict({"text": texts, "id": range(1000)}).save_to_disk(tmp_path / "saved", num_shards=12)
    options = s3_bucket.options if on_s3 else {}
    url = upload(tmp_path / "saved", f"{s3_bucket.url}/saved", options) if on_s3 else str(tmp_path / "saved")
    source = InputOptions(url=url, format=wanted, storage=options)
    units, bad = planned(source, unit_bytes=1000)
    assert not bad
    found = read_units(units, source, keep=["id"], schema=input_schema(list_files(source), source, ["id"]))
    assert [row["text"] for row in found] == texts
    assert [row["id"] for row in found] == list(range(1000))


def test_a_saved_data_set_with_splits(tmp_path: Path) -> None:
    splits = {name: Dataset.from_dict({"text": [f"{name} {number}" for number in range(3)]}) for name in ("train", "a")}
    DatasetDict(splits).save_to_disk(tmp_path)

    def texts(url: Path) -> list[str]:
        source = InputOptions(url=str(url))
        return [row["text"] for row in read_units(planned(source)[0], source)]

    assert texts(tmp_path) == ["train 0", "train 1", "train 2", "a 0", "a 1", "a 2"]
    assert texts(tmp_path / "a") == ["a 0", "a 1", "a 2"]


def test_a_saved_data_set_that_is_damaged(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path)
    (file,) = tmp_path.glob("*.arrow")
    file.unlink()
    with pytest.raises(InputNotFound, match=rf"state\.json names {file.name}, which is not there"):
        listed(str(tmp_path))
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json is not JSON"):
        listed(str(tmp_path))


def test_no_saved_data_set(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(InputNotFound, match="no folder that `datasets` saved"):
        listed(str(tmp_path), format="datasets")
    with pytest.raises(SpecError, match="is a file; what `datasets` saves is a folder"):
        listed(str(tmp_path / "x.jsonl"), format="datasets")


class RepositoryNotFoundError(Exception):
    """By its name alone, as huggingface_hub's own needs a response."""


class FakeHub(MemoryFileSystem):
    """The Hub's file system, without the Hub."""

    protocol = "hf"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    cachable = False

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        if "/private" in path:
            raise RepositoryNotFoundError("401 Client Error")
        return self._marked(super().info(path, **kwargs))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[dict[str, Any]]:
        return [self._marked(item) for item in super().ls(path, detail=True, **kwargs)]

    def _marked(self, item: dict[str, Any]) -> dict[str, Any]:
        return item | ({"blob_id": f"blob of {item['name']}"} if item["type"] == "file" else {})


@pytest.fixture
def hub() -> Iterator[None]:
    fsspec.register_implementation("hf", FakeHub, clobber=True)
    FakeHub.store.clear()
    yield
    fsspec.register_implementation("hf", HfFileSystem, clobber=True)


@pytest.mark.usefixtures("hub")
def test_a_data_set_on_the_hub() -> None:
    storage = Storage.open("hf://datasets/me/corpus")
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    for path in ("data/train-0.parquet", "data/test-0.parquet"):
        storage.write_bytes(path, sink.getvalue())
    for path in ("README.md", "LICENSE", "requirements.txt", ".gitattributes", "load.py", "dataset_infos.json"):
        storage.write_bytes(path, json.dumps({"text": "no"}).encode())
    root = "hf://datasets/me/corpus"
    assert listed(root, root) == ["data/test-0.parquet", "data/train-0.parquet"]
    assert listed(f"{root}/data/train-*", root) == ["data/train-0.parquet"]
    source = InputOptions(url=root)
    units, bad = planned(source)
    assert not bad
    assert units[0].pieces[0].file.fingerprint.startswith("blob of")
    assert [row["text"] for row in read_units(units, source)] == ["a", "b"] * 2


@pytest.mark.usefixtures("hub")
def test_a_data_set_that_the_hub_does_not_give() -> None:
    with pytest.raises(InputNotFound, match="no such repository or revision on the Hub, or it is private"):
        listed("hf://datasets/me/private")


def test_storage_that_refuses_is_no_missing_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StorageError, match="refuses access"):
        listed(str(tmp_path))
