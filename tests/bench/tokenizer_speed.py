"""Characters a second of our tokenizers and of the reference's, side by side in one run.

    python tests/bench/tokenizer_speed.py                          # all families
    python tests/bench/tokenizer_speed.py --families roformer rocbert --rounds 9 --texts 1000

Each side is a process of its own. In every round all sides of a family encode the same new texts, one after the other,
so that what else the machine does falls on all of them; the ratio is the median over rounds of the ratios within one.
Texts and vocabularies are made here. Sides that must agree are compared by a checksum of their ids, and the run fails
if they do not. The reference, transformers v4, is the one that `make setup` fills an overlay with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = Path(sys.prefix) / "reference-v4"
MEDIAN_CHARS, SIGMA, MAX_CHARS = 120.0, 1.0, 3000

_WORDS = """
我们 今天 北京 天安门 人工智能 研究 发展 经济 中国 美国 上海 市场 公司 技术 学习 机器 深度 模型 语言
处理 数据 分析 城市 交通 问题 解决 方案 提供 服务 用户 产品 设计 软件 工程师 大学 教授 学生 老师
文化 历史 传统 音乐 艺术 电影 新闻 记者 报道 政府 政策 社会 生活 健康 医院 医生 病人 治疗 药物 环境
保护 能源 汽车 企业 管理 投资 银行 金融 股票 价格 上涨 下降 消费者 需求 国际 合作 会议 代表 总统
选举 法律 法院 警察 调查 事故 安全 天气 下雨 温度 农业 粮食 水果 蔬菜 餐厅 美食 旅游 酒店 飞机 火车
地铁 高速公路 比赛 足球 篮球 冠军 运动员 训练 教育 考试 成绩 家庭 孩子 父母 朋友 爱情 婚姻 故事 小说
作者 读者 图书馆 网络 手机 电脑 互联网 信息 系统 程序 开发 测试 项目 团队 领导 员工 工资 工作 时间
地方 非常 已经 可以 应该 因为 所以 但是 如果 虽然 然后 正在 进行 认为 表示 指出 说明 特别 重要 主要
基本 完全 继续 开始 结束 增加 减少 提高 改善 的 了 在 和 是 不 有 这 那 也 都 就 要 会 能 说 看 去
来 到 对 把 被 从 向 与 或 及 等 个 一 二 三 年 月 日 中华人民共和国 科学院 研究所 生物学 物理学
数学 化学 哲学 心理学 社会主义 现代化 国务院 人民大会堂 奥林匹克运动会 乒乓球 羽毛球
"""
WORDS = _WORDS.split()
_ENGLISH = """
the of and to in a is that for it as was with be by on not he this are or his from at which but have
an they you model language data city market company student teacher history music government policy
health doctor energy international conference security weather airport football training education
family software engineer research development technology tokenization unbelievable characteristics
straightforward Washington Elizabeth quickly running jumped happiest
"""
ENGLISH = _ENGLISH.split()
SYLLABLES = [a + b + c for a in "bcdfghklmnprstvwz" for b in "aeiou" for c in ("", "l", "m", "n", "r", "s", "t", "x")]
MARKS = "，，，，。。。！？；：、“”（）《》"
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def chinese(num_texts: int, seed: int) -> list[str]:
    """Sentences of words that jieba knows, with names, numbers, Latin words and rare characters among them."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(np.exp(random.normal(np.log(MEDIAN_CHARS), SIGMA, num_texts)), MAX_CHARS).astype(int)
    return ["".join(_chinese_words(random, length))[:length] for length in lengths]


def _chinese_words(random: np.random.Generator, length: int) -> Sequence[str]:
    num_words = length // 2 + 8
    ranks = np.minimum(random.zipf(1.3, num_words) - 1, len(WORDS) - 1)
    words = np.array(WORDS, dtype=object)[random.permutation(len(WORDS))[ranks]]
    kinds = random.random(num_words)
    for place in np.flatnonzero(kinds < 0.26).tolist():
        kind = kinds[place]
        if kind < 0.15:
            words[place] = MARKS[random.integers(len(MARKS))]
        elif kind < 0.20:  # a name, of characters that are common
            words[place] = "".join(map(chr, random.integers(0x4E00, 0x5200, random.integers(1, 4))))
        elif kind < 0.23:
            words[place] = str(random.integers(10 ** random.integers(1, 6)))
        elif kind < 0.255:
            words[place] = f" {ENGLISH[random.integers(len(ENGLISH))]} "
        else:
            words[place] = chr(random.choice([0x20000, 0x3400, 0xFF21, 0x1F600, 0xE9]) + random.integers(20))
    return list(words)


def english(num_texts: int, seed: int) -> list[str]:
    """Sentences of English words."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(np.exp(random.normal(np.log(MEDIAN_CHARS), SIGMA, num_texts)), MAX_CHARS).astype(int)
    return [" ".join(random.choice(ENGLISH, length // 5 + 1).tolist()).capitalize() + "." for length in lengths]


def fresh_words(num_texts: int, seed: int) -> list[str]:
    """Words of random syllables, of which hardly one comes twice, and some numbers."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(np.exp(random.normal(np.log(MEDIAN_CHARS), SIGMA, num_texts)), MAX_CHARS).astype(int)
    return [" ".join(_fresh_words(random, length // 8 + 1)).capitalize() + "." for length in lengths]


def fresh_ideographs(num_texts: int, seed: int) -> list[str]:
    """Ideographs in any order, all of them equally often, with new words, numbers and marks among them."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(np.exp(random.normal(np.log(MEDIAN_CHARS), SIGMA, num_texts)), MAX_CHARS).astype(int)
    return ["".join(_fresh_phrases(random, length))[:length] for length in lengths]


def _fresh_phrases(random: np.random.Generator, length: int) -> Iterator[str]:
    for num_ideographs in random.integers(1, 12, length // 6 + 2).tolist():
        yield "".join(map(chr, random.integers(0x4E00, 0x9FA6, num_ideographs)))
        yield MARKS[random.integers(len(MARKS))] if random.random() < 0.8 else _fresh_words(random, 1)[0]


def _fresh_words(random: np.random.Generator, num_words: int) -> list[str]:
    syllables = random.integers(len(SYLLABLES), size=(num_words, 4)).tolist()
    counts = random.integers(2, 5, num_words).tolist()
    words = ["".join(SYLLABLES[i] for i in row[:count]) for row, count in zip(syllables, counts, strict=True)]
    return [str(row[0] * row[1]) if row[2] % 20 == 0 else word for row, word in zip(syllables, words, strict=True)]


def write_vocabularies(folder: Path) -> None:
    """A WordPiece vocabulary of the size of Chinese models with RoCBert's maps, and a byte-level BPE."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    ideographs = list(map(chr, range(0x4E00, 0x9FA6)))
    letters = [
        *map(chr, range(0x21, 0x7F)),
        *MARKS,
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
    ]
    pieces = [*ENGLISH[:60], *(f"##{end}" for end in ("ing", "ed", "ness", "tion", "er", "s", "ly"))]
    pieces += [start + syllable for syllable in SYLLABLES[::2] for start in ("", "##")]
    tokens = list(dict.fromkeys([*SPECIAL_TOKENS, *ideographs, *(w for w in WORDS if len(w) > 1), *letters, *pieces]))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    for name, step in (("word_shape.json", 24858), ("word_pronunciation.json", 910)):
        numbers = {token: i * 7919 % step for i, token in enumerate(tokens[: len(ideographs)])}
        (folder / name).write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roles = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, special_tokens=roles, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(english(500, 1) + chinese(500, 1) + fresh_words(200, 1), trainer)
    bpe.model.save(str(folder))


# -- the sides: each gives a function from texts to the ids of all of them, end to end ---------------------------------

Encode = Callable[[list[str]], Any]


def _ours(module: str, name: str, folder: Path, *, offsets: bool = False) -> Encode:
    from importlib import import_module

    tokenizer = getattr(import_module(module), name).from_pretrained(folder)
    return lambda texts: tokenizer.encode_flat(texts, offsets=offsets).input_ids


def _v4(name: str, folder: Path) -> Encode:
    import transformers

    assert transformers.__version__.startswith("4."), transformers.__version__
    transformers.logging.set_verbosity_error()
    tokenizer = getattr(transformers, name).from_pretrained(str(folder))
    return lambda texts: tokenizer(texts)["input_ids"]


def _raw(module: str, name: str, folder: Path, *, fast: bool = False) -> Encode:
    """The Rust library alone, with the same tokenizer."""
    from importlib import import_module

    backend = getattr(import_module(module), name).from_pretrained(folder).backend_tokenizer
    encode = backend.encode_batch_fast if fast else backend.encode_batch
    return lambda texts: [encoding.ids for encoding in encode(texts)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to encode."""

    name: str
    start: Callable[[Path], Encode]
    in_reference: bool = False  # runs under transformers v4
    alike: bool = True  # gives the same ids as the others of its family


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is measured for a family; the ratios are to the first side."""

    texts: Callable[[int, int], list[str]]
    sides: Sequence[Side]


def _side(name: str, start: Callable[..., Encode], *args: Any, alike: bool = True, **options: Any) -> Side:
    in_reference = start is _v4
    return Side(
        name=name,
        start=lambda folder: start(*args, folder, **options),
        in_reference=in_reference,
        alike=alike,
    )


def _against_v4(module: str, name: str, texts: Callable[[int, int], list[str]], *, slow: str | None = None) -> Contest:
    return Contest(
        texts=texts,
        sides=(
            _side(f"v4 {name}", _v4, name),
            *([_side(f"v4 {slow} (slow)", _v4, slow, alike=False)] if slow else []),
            _side("ours, encode_flat", _ours, module, name),
            _side("ours, encode_flat with offsets", _ours, module, name, offsets=True),
        ),
    )


def _against_raw(module: str, name: str, texts: Callable[[int, int], list[str]]) -> Contest:
    return Contest(
        texts=texts,
        sides=(
            _side("raw tokenizers, encode_batch", _raw, module, name),
            _side("raw tokenizers, encode_batch_fast", _raw, module, name, fast=True),
            _side("ours, encode_flat", _ours, module, name),
            _side("ours, encode_flat with offsets", _ours, module, name, offsets=True),
        ),
    )


CONTESTS: dict[str, Contest] = {
    "roformer": _against_v4("models.roformer", "RoFormerTokenizerFast", chinese, slow="RoFormerTokenizer"),
    "roformer-fresh": _against_v4("models.roformer", "RoFormerTokenizerFast", fresh_ideographs),
    "rocbert": _against_v4("models.rocbert", "RoCBertTokenizer", chinese),
    "rocbert-fresh": _against_v4("models.rocbert", "RoCBertTokenizer", fresh_ideographs),
    "bert": _against_raw("models.bert", "BertTokenizerFast", chinese),
    "bert-fresh": _against_raw("models.bert", "BertTokenizerFast", fresh_ideographs),
    "bert-english": _against_raw("models.bert", "BertTokenizerFast", english),
    "bert-english-fresh": _against_raw("models.bert", "BertTokenizerFast", fresh_words),
    "roberta": _against_raw("models.roberta", "RobertaTokenizerFast", english),
    "roberta-fresh": _against_raw("models.roberta", "RobertaTokenizerFast", fresh_words),
    "roberta-chinese": _against_raw("models.roberta", "RobertaTokenizerFast", chinese),
    "roberta-chinese-fresh": _against_raw("models.roberta", "RobertaTokenizerFast", fresh_ideographs),
}


# -- processes ---------------------------------------------------------------------------------------------------------


def serve(family: str, place: int, folder: Path) -> None:
    """In a process of a side: for each line `num_texts seed`, encodes those texts and answers how long it took."""
    contest = CONTESTS[family]
    encode = contest.sides[place].start(folder)
    for line in sys.stdin:
        num_texts, seed = map(int, line.split())
        texts = contest.texts(num_texts, seed)
        begun = time.perf_counter()
        ids = encode(texts)
        took = time.perf_counter() - begun
        flat = ids if isinstance(ids, np.ndarray) else np.fromiter(chain.from_iterable(ids), np.int32)
        checksum = zlib.crc32(flat.astype(np.int32).tobytes())
        print(json.dumps({"s": took, "chars": sum(map(len, texts)), "ids": checksum}), flush=True)


class SideProcess:
    """A side at work in a process of its own."""

    def __init__(self, family: str, place: int, folder: Path) -> None:
        side = CONTESTS[family].sides[place]
        paths = [str(OVERLAY), str(ROOT)] if side.in_reference else [str(ROOT)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", family, str(place), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            text=True,
        )

    def encode(self, num_texts: int, seed: int) -> dict[str, Any]:
        """Encodes texts; gives seconds, characters and the checksum of the ids."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{num_texts} {seed}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()


def run(family: str, folder: Path, *, num_texts: int, rounds: int) -> None:
    """Measures a family and prints a table."""
    sides = CONTESTS[family].sides
    processes = [SideProcess(family, place, folder) for place in range(len(sides))]
    for process in processes:
        process.encode(max(1, num_texts // 4), 10**6)  # libraries load, and memories fill, on other texts
    answers = []
    for number in range(rounds):
        answers.append([process.encode(num_texts, number) for process in processes])
        checksums = {answer["ids"] for answer, side in zip(answers[-1], sides, strict=True) if side.alike}
        assert len(checksums) == 1, f"{family}: the sides do not give the same ids"
    for process in processes:
        process.stop()

    mean_chars = sum(row[0]["chars"] for row in answers) / rounds / num_texts
    print(f"\n### {family}: {rounds} rounds of {num_texts:,} texts, {mean_chars:.0f} characters each\n")
    print("| | characters/s (median) | ratio | lowest | highest |\n|---|---:|---:|---:|---:|")
    for place, side in enumerate(sides):
        speed = median(row[place]["chars"] / row[place]["s"] for row in answers)
        ratios = [row[0]["s"] / row[place]["s"] for row in answers]
        print(f"| {side.name} | {speed:,.0f} | {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |")
    print(f"\nload average {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=CONTESTS, default=list(CONTESTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=3000, help="in a round")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        family, place, folder = arguments.serve
        serve(family, int(place), Path(folder))
        return
    libraries = ", ".join(f"{name} {version(name)}" for name in ("tokenizers", "rjieba", "numpy"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}")
    with tempfile.TemporaryDirectory() as folder:
        write_vocabularies(Path(folder))
        for family in arguments.families:
            run(family, Path(folder), num_texts=arguments.texts, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
