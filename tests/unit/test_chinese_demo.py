"""The demo's Chinese part: two models that are small, standard and robust, and text that is as it says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import annotate, demo
from jobs.demo.alike import number_groups, shapes, sounds, swap
from jobs.demo.chinese import frequent_words, name_grammar, roughen, topic_grammars
from jobs.demo.grammar import Sample, Span, read_rules
from jobs.demo.scores import read_corpus, scores
from models import load_model, load_tokenizer
from tests.support.demo_models import predict
from tests.support.reference import v4

JOBS = {job.name: job for job in demo.jobs()}
NER, TOPICS = JOBS["zh_ner"], JOBS["zh_topics"]
TEXTS = [
    "记者蒲怀瑾在绍兴报道，沧浪重工第三季度净利润下降一成二。",
    "学打羽毛求半年，返手还是不会，叫练说我脚部太漫。",
    "𠮷野家的CEO说：ＡＢＣ１２３ café🙂",
]


@pytest.mark.parametrize(
    ("job", "names"),
    [
        (NER, {"vocab.txt", "tokenizer.json"}),
        (TOPICS, {"vocab.txt", "word_shape.json", "word_pronunciation.json"}),
    ],
    ids=["zh_ner", "zh_topics"],
)
def test_model_has_the_files_of_its_family(job: demo.DemoJob, names: set[str]) -> None:
    assert {path.name for path in job.model.iterdir()} >= names


@pytest.mark.parametrize(
    ("job", "architecture"),
    [(NER, "RoFormerForTokenClassification"), (TOPICS, "RoCBertForSequenceClassification")],
    ids=["zh_ner", "zh_topics"],
)
def test_the_reference_loads_it_and_agrees(job: demo.DemoJob, architecture: str) -> None:
    ids, logits = v4(predict, architecture, str(job.model), TEXTS)
    batch = load_tokenizer(job.model)(TEXTS, padding=True, return_tensors="pt")
    assert {name: batch[name].tolist() for name in batch} == ids
    with torch.inference_mode():
        found = load_model(job.model)(**batch).logits
    torch.testing.assert_close(found, torch.tensor(logits), atol=1e-5, rtol=0)


def test_jieba_cuts_the_text_of_the_tagger() -> None:
    tokens = load_tokenizer(NER.model).tokenize("董事长昨天出席了开幕式")
    assert "董事长" in tokens
    assert "开幕式" in tokens


@pytest.mark.parametrize(
    "before", ["", "🙂", "𠮷𡈽𣲗", "ＡＢ１２", "\u200b\u200b", "e\u0301 ", "　", "\n\n", "【快讯】"]
)
def test_entities_lie_where_the_original_text_has_them(before: str) -> None:
    text = f"{before}昨天，记者蒲怀瑾在绍兴报道。"
    (entities,) = annotate([text], model=NER.model, task={"type": "ner"})["entities"].to_pylist()
    found = {(one["label"], one["start"], one["end"], one["text"]) for one in entities}
    for label, name in (("PER", "蒲怀瑾"), ("LOC", "绍兴")):
        start = text.index(name)
        assert (label, start, start + len(name), name) in found


def test_most_names_of_the_corpus_are_in_no_list() -> None:
    rules = Path(demo.FOLDER / "text" / "chinese" / "names.yaml").read_text(encoding="utf-8")
    names = [entity["text"] for row in read_corpus(NER.corpus) for entity in row["gold"]]
    assert len(names) >= 200
    assert np.mean([name not in rules for name in names]) >= 0.5


def test_swapped_characters_do_not_change_the_topic() -> None:
    (same,) = [one for one in scores(TOPICS, TOPICS.model) if one.name == "same topic when swapped"]
    assert same.value >= 0.95, str(same)


def test_variants_differ_in_characters_that_are_alike_and_known() -> None:
    rows = {row["id"]: row for row in read_corpus(TOPICS.corpus)}
    known = load_tokenizer(TOPICS.model).get_vocab()
    variants = [row for row in rows.values() if row["original"]]
    assert len(variants) >= 50
    for row in variants:
        original = rows[row["original"]]
        assert row["gold"] == original["gold"]
        swaps = [pair for pair in zip(original["text"], row["text"], strict=True) if pair[0] != pair[1]]
        assert swaps
        for old, new in swaps:
            assert new in known
            assert new in sounds().get(old, "") or new in shapes().get(old, ""), f"{old} and {new} in {row['id']}"


def test_alike_characters_share_an_id_in_the_tables_of_the_model() -> None:
    tokenizer = load_tokenizer(TOPICS.model)
    sound, shape = (
        dict(zip("是事市末未的", convert("是事市末未的"), strict=True))
        for convert in (tokenizer.convert_tokens_to_pronunciation_ids, tokenizer.convert_tokens_to_shape_ids)
    )
    assert sound["是"] == sound["事"] == sound["市"] != sound["的"]
    assert shape["末"] == shape["未"] != shape["的"]
    assert len({shape["是"], shape["事"], shape["市"]}) == 3


def test_one_id_for_a_group_and_one_for_each_other_token() -> None:
    assert number_groups(["[PAD]", "a", "b", "c"], {"a": "ac", "c": "ac"}) == {"[PAD]": 0, "a": 1, "b": 2, "c": 1}


def test_every_character_is_in_one_group() -> None:
    for rules in (read_rules("chinese/sounds").values(), read_rules("chinese/shapes")["groups"]):
        characters = "".join(rules)
        assert len(set(characters)) == len(characters)
    assert len(sounds()) == 3755
    assert set(shapes()) <= set(sounds()) | {"毋"}


def test_a_swap_keeps_the_length_and_what_has_nothing_like_it() -> None:
    text = "abc，末日🙂"
    swapped = swap(text, random.Random(0), 1.0)
    assert len(swapped) == len(text)
    assert swapped[:4] == "abc，"
    assert swapped[-1] == "🙂"
    assert swap(text, random.Random(0), 0.0) == text


def test_roughening_keeps_every_character_in_its_place() -> None:
    rng = random.Random(0)
    text = "第3轮，A队（主场）胜。"
    roughened = {roughen(text, rng) for _ in range(200)}
    assert {len(one) for one in roughened} == {len(text)}
    assert {"第３轮，Ａ队（主场）胜。", "第3轮,A队(主场)胜。", "第3轮 A队（主场）胜 "} <= roughened


def test_words_of_names_are_not_in_the_vocabulary() -> None:
    samples = [
        Sample(text="北京的天气", entities=[Span(label="LOC", start=0, end=2)]),
        Sample(text="天气预报说北京的天气好"),
    ]
    words = frequent_words(samples)
    assert "天气" in words
    assert "北京" not in words


def test_same_seed_same_texts() -> None:
    first, second = (
        [grammar.write(random.Random(5)).text for grammar in [name_grammar(), *topic_grammars().values()]]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("job", [NER, TOPICS], ids=["zh_ner", "zh_topics"])
def test_corpus_has_what_is_awkward_in_chinese(job: demo.DemoJob) -> None:
    rows = read_corpus(job.corpus)
    texts = [row["text"] for row in rows]
    assert len(rows) >= 120
    assert len({row["id"] for row in rows}) == len(rows)
    assert None in texts
    assert any(text is not None and not text.strip() for text in texts)
    present = "".join(text for text in texts if text)
    assert any("\U00020000" <= char <= "\U0003ffff" for char in present), "ideographs outside the BMP"
    assert any("\U0001f000" <= char <= "\U0001ffff" for char in present), "emoji"
    assert any("０" <= char <= "９" for char in present), "full-width digits"
    assert any(char in present for char in "這記書"), "traditional characters"
    assert any(char.isascii() and char.isalpha() for char in present)
    longest = max(len(ids) for ids in load_tokenizer(job.model)([text for text in texts if text])["input_ids"])
    assert longest > 2 * load_tokenizer(job.model).model_max_length
