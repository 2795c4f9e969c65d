"""What the demo is made of: small, in standard files, and as good as its README says."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from jobs import JobSpec, demo
from jobs.demo.grammar import Grammar, Sample, Span, read_rules, theme_grammars
from jobs.demo.scores import read_corpus, scores
from jobs.demo.training import ENTITY_LABELS, entity_labels
from models import load_model, load_tokenizer

MODEL_BYTES = 3_000_000
JOB_BYTES = 3_300_000
JOBS = {job.name: job for job in demo.jobs()}
EACH_JOB = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
ENGLISH = ("topics", "ner", "embed")  # what is particular to the Chinese jobs is in test_chinese_demo.py
EACH_ENGLISH_JOB = pytest.mark.parametrize("job", [JOBS[name] for name in ENGLISH], ids=ENGLISH)
HEADS = {
    "topics": ("sequence-classification", transformers.AutoModelForSequenceClassification),
    "ner": ("token-classification", transformers.AutoModelForTokenClassification),
    "embed": ("encoder", transformers.AutoModel),
}
TEXTS = [
    "Maria Kowalczyk joined Nordlys Energi in Bergen.",
    "Knead the dough, leave it to rise, and bake the rolls for twenty minutes.",
    "🍋 这家公司 اليوم",
]


@EACH_JOB
def test_job_is_small(job: demo.DemoJob) -> None:
    files = [job.spec, job.corpus, *(path for path in job.model.rglob("*") if path.is_file())]
    assert sum(path.stat().st_size for path in files) < JOB_BYTES


@EACH_JOB
def test_spec_names_the_bundled_files(job: demo.DemoJob) -> None:
    spec = JobSpec.from_yaml(job.spec)
    clone = demo.FOLDER.parent.parent
    assert [clone / url for url in spec.input.url] == [job.corpus]
    assert clone / spec.model.path == job.model
    assert set(spec.output.keep) <= set(read_corpus(job.corpus)[0])


@EACH_JOB
def test_model_has_the_standard_files_and_is_small(job: demo.DemoJob) -> None:
    names = {path.name for path in job.model.iterdir()}
    assert names >= {"config.json", "model.safetensors", "special_tokens_map.json", "tokenizer_config.json"}
    if job.name in ENGLISH:
        assert names >= {"merges.txt", "tokenizer.json", "vocab.json"}
    assert (job.model / "model.safetensors").stat().st_size < MODEL_BYTES


def test_embedding_model_says_how_to_pool() -> None:
    folder = JOBS["embed"].model
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert pooling["word_embedding_dimension"] == json.loads((folder / "config.json").read_text())["hidden_size"]


@EACH_ENGLISH_JOB
def test_transformers_agrees(job: demo.DemoJob) -> None:
    head, auto = HEADS[job.name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    ours = load_tokenizer(job.model)(TEXTS, padding=True, return_tensors="pt")
    assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()

    with torch.inference_mode():
        expected = auto.from_pretrained(job.model).eval()(**theirs)[0]
        found = load_model(job.model, task=head)(**ours)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@EACH_JOB
def test_model_is_good_on_its_corpus(job: demo.DemoJob) -> None:
    for result in scores(job, job.model):
        assert result.value >= result.bar, str(result)


@EACH_ENGLISH_JOB
def test_corpus_has_awkward_rows(job: demo.DemoJob) -> None:
    rows = read_corpus(job.corpus)
    texts = [row["text"] for row in rows]
    assert 120 <= len(rows) <= 300
    assert len({row["id"] for row in rows}) == len(rows)
    assert any(text is not None and not text.strip() for text in texts)
    present = [text for text in texts if text]
    longest = max(len(ids) for ids in load_tokenizer(job.model)(present)["input_ids"])
    assert longest > 2 * load_model(job.model, task=HEADS[job.name][0]).config.max_tokens
    for name in ("CJK", "ARABIC", "DEVANAGARI", "CYRILLIC"):
        assert any(unicodedata.name(letter, "").startswith(name) for text in present for letter in text)


@pytest.mark.parametrize("name", ["ner", "zh_ner"])
def test_gold_entities_are_what_the_text_says(name: str) -> None:
    for row in read_corpus(JOBS[name].corpus):
        for entity in row["gold"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]


def test_most_names_of_the_corpus_were_never_trained_on() -> None:
    rules = Path(demo.FOLDER / "text" / "names.yaml").read_text(encoding="utf-8")
    entities = [entity["text"] for row in read_corpus(JOBS["ner"].corpus) for entity in row["gold"]]
    unseen = [any(word not in rules for word in name.split()) for name in entities]
    assert np.mean(unseen) >= 0.5


def test_grammar_marks_entities() -> None:
    grammar = Grammar(
        {"text": ["<Who> went to <LOC>"], "who": ["the <PER>"], "PER": ["Ann"], "LOC": ["<city>"], "city": ["Ulm"]}
    )
    sample = grammar.write(random.Random(0))
    assert sample.text == "The Ann went to Ulm"
    marked = {(one.label, sample.text[one.start : one.end]) for one in sample.entities}
    assert marked == {("PER", "Ann"), ("LOC", "Ulm")}


def test_grammar_names_a_rule_that_is_missing() -> None:
    with pytest.raises(ValueError, match="'text' uses <who>, which has no rule"):
        Grammar({"text": ["<who> spoke"]})


def test_same_seed_same_texts() -> None:
    first, second = (
        [grammar.write(random.Random(5)).text for grammar in [*theme_grammars().values(), Grammar(read_rules("names"))]]
        for _ in range(2)
    )
    assert first == second


def test_entity_labels_cover_all_tokens_of_a_name() -> None:
    sample = Sample(text="in Bad Ems.", entities=[Span(label="LOC", start=3, end=10)])
    labels = entity_labels(sample, [(0, 0), (0, 2), (3, 6), (7, 8), (8, 10), (10, 11), (0, 0)])
    assert [ENTITY_LABELS[label] if label >= 0 else None for label in labels] == [
        None,
        "O",
        "B-LOC",
        "I-LOC",
        "I-LOC",
        "O",
        None,
    ]
