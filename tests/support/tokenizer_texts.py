"""Awkward strings, and a small byte-level BPE vocabulary trained on text that stands here."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

TRAINING_TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind: it's what they've always done.",
    "We'll see whether you're right; I'm not sure they'd agree. Whatever he'd said, she's gone.",
    "In 2024 the museum in Paris counted 1,234,567 visitors, 12% more than in 2023.",
    "def tokenize(text): return [piece for piece in text.split() if piece]  # code has   blanks",
    "Visit https://example.com/path?query=value&other=1 or write to someone@example.org today.",
    "北京是中华人民共和国的首都。上海在东边,广州在南边。今天天气很好,我们去公园吧!",
    "日本語の文章は、ひらがなとカタカナと漢字でできている。",
    "Москва - столица России. Ελλάδα, Ὀδυσσεύς. שלום עולם. مرحبا بالعالم",
    "Café crème à Genève, Zürich, São Paulo, naïve façade, jalapeño, œuvre.",
    "🙂 🙃 👍🏽 👩‍👩‍👧‍👦 🇫🇷 emoji stand among words 🙂.",
]

_PIECES = [
    "", " ", "  ", "   \t ", "\n", "\r\n", "\n\n\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u0085", "\u2028",
    "\x1c", "\x00", "\x07\x08", "Hello", " Hello", "Hello ", "hello world", "HELLO", "don't", "DON'T", "we'll've",
    "it’s", "'s", " 's", "''", "I'm you're they've he'd she'll", "123", "1234567890", "3.14", "1,234", "٣٤٥",
    "१२३", "１２３", "½", "²", "Ⅻ", "北京", "我爱北京天安门", "北京Beijing北京", "日本語テキスト",
    "한국어 텍스트", "Привет мир", "ΣΊΣΥΦΟΣ", "İstanbul", "ß", "ﬁ", "שָׁלוֹם", "مرحبا", "ไทย", "हिन्दी", "café",
    "cafe\u0301", "a\u0300\u0301\u0302", "\u0301", "Ångström", "A\u030angstro\u0308m", "🙂", "👩‍👩‍👧‍👦",
    "👍🏽", "🇫🇷🇩🇪", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠀀𠀁", "\U0010ffff", "\ue000", "\u0378", "<mask>", " <mask>",
    "<mask> ", "  <mask>  ", "<s>", "</s>", "<pad>", "<unk>", "<s>text</s>", "a<mask>b", "<mask><mask>",
    "< mask >", "<MASK>", "<mask", "</s></s>", "x </s> y", "https://example.com/a?b=c&d=e#f",
    "someone@example.org", "C:\\path\\file.txt", "for i in range(10):\n    x[i] += 1\n", "{}[]()<>", "!!!", "...",
    "…", "—–-", "“quotes”", "a_b_c", "snake_case camelCase", "#hashtag @user", "$1,000.50", "50%", "a" * 100,
    "ab" * 60, "x" * 33, "=" * 50, "Ġ", "ĠHello", "Ċ", "\\n", "\u202eabc\u202c", "a\u00adb", "\t tab",
    "trailing   ", "   leading",
]  # fmt: skip

_PARTNERS = ["Hello", " x ", "北京", "<mask>", "'s", "12", "\n", "é", "🙂", "</s>"]

AWKWARD_TEXTS: list[str] = list(
    dict.fromkeys(
        [
            *_PIECES,
            *TRAINING_TEXT,
            *(a + b for a, b in itertools.product(_PIECES[1::3], _PARTNERS)),
            *(b + a for a, b in itertools.product(_PIECES[2::4], _PARTNERS[::2])),
        ]
    )
)


def write_byte_level_files(folder: Path, *, drop: str = "") -> Path:
    """Trains a byte-level BPE and writes `vocab.json` and `merges.txt`; gives the folder.

    Args:
        folder: made if need be.
        drop: characters of the byte alphabet to leave out of the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL_TOKENS[:-1],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    kept = [token for token in model["vocab"] if not set(token) & set(drop) or token in SPECIAL_TOKENS]
    merges = [" ".join(pair) for pair in model["merges"] if not set("".join(pair)) & set(drop)]
    vocabulary = {token: i for i, token in enumerate([*kept, "<mask>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "roberta"}', encoding="utf-8")
    return folder
