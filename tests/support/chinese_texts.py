"""Awkward strings around Chinese, and small vocabularies for BERT, RoFormer and RoCBert."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tests.support.tokenizer_texts import AWKWARD_TEXTS

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

SENTENCES = [
    "今天天气非常好。", "北京是中华人民共和国的首都，上海是最大的城市。", "我爱北京天安门，天安门上太阳升！",
    "水在零度时会[MASK]。", "人工智能正在改变我们的生活方式，机器学习和深度学习是其中的核心技术。",
    "這家餐廳的拉麵是我[MASK]過的最好的拉麵之一", "他说：“明天上午九点半开会，别迟到！”", "研究生命的起源",
    "南京市长江大桥", "乒乓球拍卖完了", "小明硕士毕业于中国科学院计算所，后在日本京都大学深造。",
    "C++和C#是编程语言，价格是￥3,500.00元(含税)。", "iPhone15Pro的电池续航达到23小时，比上一代提升10%！",
    "请访问https://www.example.com.cn/路径?查询=值&b=2或发邮件至zhang_san@example.cn。",
    "2024年10月1日，A股三大指数集体高开。", "他买了3.5公斤苹果、2箱Coca-Cola和1/2个西瓜……",
    "The 北京 Olympic Games 2008年在北京举行 and it was 非常 successful.",
]  # fmt: skip

_PIECES = [
    "今天", "天安门", "非常", "。", "，", "！", "《红楼梦》", "“引号”", "……", "——", "·", "〇", "々", "㐀", "㐀㐁",
    "䶵", "龥", "鿿", "豈更車", "𠀀", "𠀀𠀁𪛖", "𪜀𫝀𫠝", "丽丸", "𰀀", "北京𠮷野家", "\U0002b820", "ＡＢＣ１２３",
    "ｶﾀｶﾅ", "（全角）", "％＋－", "ひらがな", "カタカナ", "한국어", "가각", "\u1112\u1161\u11ab", "café北京",
    "cafe\u0301北京", "naïve", "e\u0301\u0323", "\u0301", "中\u0301文", "É", "ñ", "Å", "ΣΊΣΥΦΟΣ", "ὈΔΥΣΣΕΎΣ",
    "İstanbul", "ß", "ẞ", "ﬁ", "Ǆ", "ÀÉÎ", "\u01c5x", "今\u200b天", "今\u00ad天", "今\ufeff天", "to\u200bday",
    "a\x00b", "a\ufffdb", "a\x07b", "\x1ca", "a\x1fb", "a\x85b", "a\u2028b", "a\u2029b", "今\u3000天",
    "今\u00a0天", "今 天", "今\t天", "今\n天", "今\r\n天", "\r\r", "\u180e", "\u0378", "a\u0378b", "\ue000",
    "今\ue000天", "\U000f0000", "a\u302ab", "a\u302eb", "\U0001d15e", "\U0001d165\U0001d16d", "\u0b47\u0b3e",
    "क्षि", "שָׁ", "ก็", "\u0eb3", "🙂", "今天🙂天气", "👩‍👩‍👧‍👦", "👍🏽", "🇨🇳", "❤️", "1️⃣", "[MASK]", "[SEP]",
    "[CLS]", "[UNK]", "[PAD]", "今[MASK]天", "今天 [MASK] 天气", "[mask]", "[Mask]", "[ MASK ]", "[MASK", "MASK]",
    "[MASK][MASK]", "[CLS]今天[SEP]", "c#", "C++", "c/c++", ".net", "a.b", "x-y_z", "3.14", "1,234", "50%",
    "#话题#", "@用户", "a&b", "微信weixin支付", "Ｈｅｌｌｏ", "unaffable", "UNAFFABLE", "unable affable",
    "affableun", "embeddings", "x" * 99, "x" * 100, "x" * 101, "un" * 60, "ab,c" * 30, "今" * 120, "啊" * 3,
    "\u2260", "a\u2260b", "\u037e", "\u1fef", "\u2126", "\u212b", "≯", "㊀", "①", "㎏", "℃", "Ⅳ", "½", "²", "♥",
    "→", "¥", "€", "\u20dd", "a\u20ddb", "~`!@#$%^&*()_+-=[]{}|;':\",./<>?", "don't", "we'll", "Mr. O'Neil",
    "##ing", "# #", "##今", "tab\there", " 前后空格 ", "　全角空格　", "今天　天气", "hello", "Hello WORLD", "ʼn",
    "ŉ", "ΐ", "ĳ", "\u0345", "α\u0345", "ᾳ", "\u0958", "\u0344",
]  # fmt: skip

_PARTNERS = ["今天", "x ", "[MASK]", "。", "é", "\u0301", "🙂", "\u200b", "𠀀", "café", "1", "Σ"]

CHINESE_TEXTS: list[str] = list(
    dict.fromkeys(
        [
            *_PIECES,
            *SENTENCES,
            *(a + b for a, b in itertools.product(_PIECES[::2], _PARTNERS)),
            *(b + a for a, b in itertools.product(_PIECES[1::3], _PARTNERS[::2])),
            *AWKWARD_TEXTS[::2],
            "".join(SENTENCES) * 5,
        ]
    )
)

_WORDS = """今天 天气 非常 北京 中华人民共和国 首都 上海 城市 我 爱 天安门 太阳 人工智能 改变 我们 生活 方式
机器 学习 核心 技术 餐廳 拉麵 明天 上午 开会 研究 研究生 生命 起源 南京市 长江大桥 乒乓球 拍卖 硕士
毕业 中国科学院 日本 大学 编程 语言 价格 电池 续航 小时 提升 苹果 公斤 红楼梦 举行 微信 支付 全角
空格"""

_LETTERS = (
    "今天气非常好北京是的和国在我爱门上水零度时会人工智能改变们生活方式机器学习深其中核心"
    "技術這家餐廳拉麵過最之一他说明九点半开会别迟到研究生命起源"
    "。，！？：；、（）“”《》…—·〇㐀豈更𠀀丽가a1é⁃ก🙂♥→①½cｶＡ３()[],.!?#%&*+-/@'\"~"
)

_LATIN = """hello world the a b c d e x un able aff cafe naive istanbul today phone pro olympic games and it was
example com cn https www 2008 2024 3 5 10 23 1 14 on ##aff ##able ##ing ##s ##e ##o ##x ##un ##1 ##2
##3 ##ne ##t ##com ##今 ##天 ##京 σ ς ##σ ##ς ι ##ι ss ß 안 ᄒ ##ᅡ ##ᆫ 가 ｈ ##ｅ ##ｌ ##ｏ ａｂｃ
カ ##タ ##カ ##ナ ひ ##ら ##が ##な"""

VOCABULARY: list[str] = list(
    dict.fromkeys([*SPECIAL_TOKENS, *_WORDS.split(), *_LETTERS, *_LATIN.split(), "é", "É", "Hello", "two words"])
)


def write_wordpiece_files(folder: Path, *, family: str = "bert") -> Path:
    """Writes `vocab.txt` and a `config.json`, for "roc_bert" also its two maps; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")
    if family == "roc_bert":
        # Some characters that the vocabulary lacks are in the maps, and the other way round.
        known = [*SPECIAL_TOKENS, *VOCABULARY[5:-20:2], "啊", "龥", "##able"]
        for name, step in (("word_shape.json", 7), ("word_pronunciation.json", 3)):
            numbers = {token: i * step % 100 for i, token in enumerate(dict.fromkeys(known[:-step]), start=1)}
            (folder / name).write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
    return folder
