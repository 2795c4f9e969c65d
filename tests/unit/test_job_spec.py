"""A job spec is read, checked and written; whatever is wrong is said at once and in the spec's own words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from jobs import demo
from jobs.classify import ClassifyTask
from jobs.ner import NerTask
from jobs.spec import JobSpec, parse_task
from pipeline.errors import SpecError

YAML = """\
name: nightly-ner
input:
  url: "s3://corpus/2026/*.arrow"
  text: body
  storage: {key: AKIA-key, secret: hush-hush, endpoint_url: "http://localhost:9000", anon: false}
output: {url: "s3://labels/nightly-ner", keep: [id, url]}
model: {path: some/model, dtype: float32}
task: {type: ner, aggregation: first}
workers: {min: 1, max: 16, gpus: 1}
"""


def minimal(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "test",
        "input": {"url": "in"},
        "output": {"url": "out"},
        "model": {"path": "model"},
        "task": {"type": "classify"},
    }
    return values | changes


def problem(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_dict(minimal(**changes))
    return str(caught.value)


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(YAML)
    return path


class TestReading:
    def test_yaml(self, job_file: Path) -> None:
        spec = JobSpec.from_yaml(job_file)
        assert spec.input.url == ("s3://corpus/2026/*.arrow",)
        assert spec.output.keep == ("id", "url")
        assert spec.task == NerTask(aggregation="first")
        assert spec.workers.max == 16
        assert spec.limits.attempts == 3

    def test_overrides_replace_and_add(self, job_file: Path) -> None:
        spec = JobSpec.from_yaml(
            job_file,
            ["workers.max=3", "limits.bad_rows=0.5", "output.keep=[id]", "model.revision=v1=2", "task.stride=null"],
        )
        assert spec.workers.max == 3
        assert spec.limits.bad_rows == 0.5
        assert spec.output.keep == ("id",)
        assert spec.model.revision == "v1=2"

    @pytest.mark.parametrize("override", ["workers.max", "=3", "workers..max=3", ".=1"])
    def test_a_malformed_override(self, job_file: Path, override: str) -> None:
        with pytest.raises(SpecError, match=r"expected a dotted key and a value, as in workers\.max=4"):
            JobSpec.from_yaml(job_file, [override])

    def test_an_override_below_a_value(self, job_file: Path) -> None:
        with pytest.raises(SpecError, match=r'--set name\.first: name is "nightly-ner", not a mapping'):
            JobSpec.from_yaml(job_file, ["name.first=secret-value"])

    def test_survives_yaml_and_pickle(self, tmp_path: Path) -> None:
        spec = JobSpec.from_dict(minimal(input={"url": ["a", "b"], "storage": {"anon": True}}))
        path = tmp_path / "written.yaml"
        path.write_text(spec.to_yaml())
        assert JobSpec.from_yaml(path) == spec
        assert pickle.loads(pickle.dumps(spec)) == spec

    def test_is_frozen(self) -> None:
        with pytest.raises(Exception, match="frozen"):
            JobSpec.from_dict(minimal()).name = "other"  # type: ignore[misc]

    @pytest.mark.parametrize("job", demo.jobs(), ids=lambda job: job.name)
    def test_the_bundled_job_files(self, job: demo.DemoJob) -> None:
        assert JobSpec.from_yaml(job.spec).name == f"demo-{job.name}"

    def test_task_alone(self) -> None:
        assert parse_task({"type": "classify", "top_k": "all"}) == ClassifyTask(top_k="all")
        with pytest.raises(SpecError, match=r"task: agregation: unknown key; did you mean aggregation\?"):
            parse_task({"type": "ner", "agregation": "first"})


class TestMessages:
    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "job.yaml"
        path.write_text(
            "name: x\ninput: {url: in, txt: body}\nworkers: {min: 0}\ntask: {type: nerr}\nmodel: {path: 3}\n"
        )
        with pytest.raises(SpecError) as caught:
            JobSpec.from_yaml(path)
        assert str(caught.value).splitlines() == [
            f"{path}: 5 problems",
            "  input.txt: unknown key; did you mean text?",
            "  output: missing; expected a mapping with url, keep, compression, prune, overwrite, storage",
            "  model.path: expected text, found 3; put it in quotes",
            "  task.type: expected one of classify, embed, ner, found \"nerr\"; did you mean ner?",
            "  workers.min: expected a whole number of at least 1, found 0",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"outptu": {}}, "outptu: unknown key; did you mean output?"),
            ({"keep": ["id"]}, "keep: unknown key; did you mean output.keep?"),
            ({"model": {"path": "m", "zzz": 1}}, "model.zzz: unknown key; known here: path, revision, dtype, storage"),
            ({"task": {"type": "ner", "agregation": "x"}}, "task.agregation: unknown key; did you mean aggregation?"),
            (
                {"task": {"type": "ner", "aggregation": "frist"}},
                "task.aggregation: expected one of none, simple, first, average, max, "
                'found "frist"; did you mean first?',
            ),
            ({"task": {}}, "task.type: missing; expected one of classify, embed, ner"),
            ({"task": "ner"}, 'task: expected a mapping with type, ..., found "ner"'),
            (
                {"task": {"type": "classify", "top_k": 0}},
                "task.top_k: expected a whole number of at least 1, all or null, found 0",
            ),
            (
                {"task": {"type": "embed", "normalize": "yep"}},
                'task.normalize: expected auto or true or false, found "yep"',
            ),
            ({"output": {"url": "o", "keep": "id"}}, 'output.keep: expected a list of texts, found "id"'),
            ({"output": {"url": "o", "keep": ["id", 3]}}, "output.keep[1]: expected text, found 3; put it in quotes"),
            ({"limits": {"bad_rows": "many"}}, 'limits.bad_rows: expected a number of at least 0, found "many"'),
            ({"workers": {"cpus": 0}}, "workers.cpus: expected a number above 0, found 0"),
            ({"workers": {"min": 4, "max": 2}}, "workers.max: expected at least workers.min, 4, found 2"),
            ({"workers": None}, "workers: expected a mapping with min, max, gpus, cpus, token_budget, found nothing"),
            (
                {"input": {"url": "in", "text_pair": "b"}, "task": {"type": "ner"}},
                "input.text_pair: ner takes single texts, not pairs",
            ),
        ],
    )  # fmt: skip
    def test_one_problem(self, changes: dict[str, Any], expected: str) -> None:
        assert problem(**changes) == f"job spec: {expected}"

    def test_no_pydantic_in_them(self) -> None:
        with pytest.raises(SpecError) as caught:
            JobSpec(name="x")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "pydantic" not in str(caught.value)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("name: x\ninput: [\n", ":3:1: not valid YAML"),
            ("name: x\nname: y\n", ":2:1: not valid YAML: the key name is there twice, first in line 1"),
            ("name: x\ntask:\n  type: ner\n  type: embed\n", ":4:3: not valid YAML: the key type is there twice"),
            ("name: !!python/object:os.system x\n", ":1:7: not valid YAML"),
            ("", ": expected a mapping with the keys name, input, output, model, task, workers, limits, found nothing"),
            ("- a\n- b\n", "found a list"),
            ("just text", 'found "just text"'),
        ],
    )
    def test_not_a_spec(self, tmp_path: Path, text: str, expected: str) -> None:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        with pytest.raises(SpecError) as caught:
            JobSpec.from_yaml(path)
        assert expected in str(caught.value)
        assert str(caught.value).startswith(str(path))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="no such file; expected a job spec in YAML"):
            JobSpec.from_yaml(tmp_path / "none.yaml")
        with pytest.raises(SpecError, match="cannot be read as text: Is a directory"):
            JobSpec.from_yaml(tmp_path)
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        with pytest.raises(SpecError, match="cannot be read as text: not UTF-8"):
            JobSpec.from_yaml(tmp_path / "binary")


class TestSecrets:
    def test_not_shown(self, job_file: Path) -> None:
        spec = JobSpec.from_yaml(job_file)
        for shown in (
            repr(spec),
            str(spec),
            repr(spec.input),
            spec.to_yaml(),
            str(spec.redacted()),
            str(spec.identity()),
        ):
            assert "hush" not in shown
            assert "AKIA" not in shown
        assert spec.redacted()["input"]["storage"] == {
            "key": "***", "secret": "***", "endpoint_url": "http://localhost:9000", "anon": False,
        }  # fmt: skip
        assert spec.input.storage["secret"] == "hush-hush"

    def test_not_in_messages(self, tmp_path: Path) -> None:
        assert "hush" not in problem(input={"url": "in", "storage": "hush-hush"})
        assert "hush" not in problem(input="s3://me:hush-hush@host/in")
        for url in ("sftp://me:hush@host/in", "https://hush@host/in", "simplecache::https://me:hush@host/in"):
            shown = problem(input={"url": url})
            assert "hush" not in shown
            assert "put them under `storage`" in shown
        for field in ({"output": {"url": "ftp://me:hush@host/out"}}, {"model": {"path": "sftp://me:hush@host/m"}}):
            assert "hush" not in problem(**field)
        for query in (
            "a=b&X-Amz-Signature=hush",
            "X-Amz-Security-Token=hush",
            "X-Goog-Signature=hush",
            "Signature=hush",
            "se=1&sig=hush",
            "access_token=hush",
            "accesstoken=hush",
            "access%5Ftoken=hush",
            "api_key=hush",
            "key=hush",
            "a=b&client_secret=hush",
        ):
            for place in ("https://host/in.parquet", "zip://in.parquet::https://host/in.zip"):
                shown = problem(input={"url": f"{place}?{query}"})
                assert "hush" not in shown
                assert "a URL may hold no signature, token or other secret" in shown
        for url in (
            "https://host/in.parquet?download=true&tokens=3&primary_key=2",
            "https://host/in.parquet?page_token=3&nextPageToken=4&continuation-token=5",
            "s3://bucket/part-?token=1",  # a glob
            "/folder/part-?key=1",
            "zip://part-?token=1::https://host/in.zip",
        ):
            assert JobSpec(**minimal(input={"url": url}))
        path = tmp_path / "job.yaml"
        path.write_text("input: {storage: {secret: 'hush-hush}}\n")
        with pytest.raises(SpecError) as caught:
            JobSpec.from_yaml(path, ["input.storage.secret=hush"])
        assert "hush" not in str(caught.value)

    def test_a_redacted_spec_does_not_run(self, job_file: Path, tmp_path: Path) -> None:
        path = tmp_path / "redacted.yaml"
        path.write_text(JobSpec.from_yaml(job_file).to_yaml())
        with pytest.raises(SpecError, match=r"input\.storage: a secret was left out"):
            JobSpec.from_yaml(path)


def test_identity_is_what_decides_the_rows(job_file: Path) -> None:
    spec = JobSpec.from_yaml(job_file)
    elsewhere = JobSpec.from_yaml(job_file, ["workers.max=2", "input.url=other", "model.path=copy/of/model"])
    other_task = JobSpec.from_yaml(job_file, ["task.aggregation=max"])
    assert spec.identity() == elsewhere.identity()
    assert spec.identity() != other_task.identity()
