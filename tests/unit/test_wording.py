"""Numbers, sizes and times as people read them."""

import pytest

from jobs.wording import count, duration, one_line, plural, share, short, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (-1, "0.0 s"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3600 + 125, "1 h 2 min"),
        (86400 * 11 + 3600 * 13, "11 d 13 h"),
        (86400 + 5, "1 d"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (8.4, "8.4"),
        (99.96, "100"),
        (999.7, "1k"),
        (1234, "1.23k"),
        (45.6e6, "45.6M"),
        (7e9, "7B"),
    ],
)
def test_short(number: float, words: str) -> None:
    assert short(number) == words


def test_sizes_and_counts() -> None:
    assert [size(512), size(1500), size(2.4e9), size(3e12)] == ["512 B", "1.5 KB", "2.4 GB", "3 TB"]
    assert count(1234567) == "1,234,567"
    assert [plural(0, "file"), plural(1, "file"), plural(1000, "entity")] == ["0 files", "1 file", "1,000 entities"]


def test_a_share_is_never_rounded_to_nothing_or_to_all() -> None:
    assert [share(0, 10), share(1, 1000), share(1, 3), share(999, 1000), share(10, 10)] == [
        "0%",
        "<1%",
        "33%",
        ">99%",
        "100%",
    ]
    assert share(1, 0) == "–"


def test_one_line_shortens_and_hides_control_characters() -> None:
    assert one_line("a\n\n b\tc", 10) == "a b c"
    assert one_line("abcdefghij", 5) == "abcd…"
    assert one_line("x\x1b[31my", 10) == "x\N{REPLACEMENT CHARACTER}[31my"
    assert one_line("日本語" * 1000, 4) == "日本語…"
    assert len(one_line("word " * 1_000_000, 40)) <= 40
