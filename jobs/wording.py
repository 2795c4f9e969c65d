"""Numbers, sizes and times as people read them."""

from __future__ import annotations


def count(number: float) -> str:
    """`1234567` as `1,234,567`."""
    return f"{number:,.0f}"


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1 entity`, `2 entities`."""
    if number == 1:
        return f"1 {noun}"
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count(number)} {many}"


def short(number: float) -> str:
    """Three digits are enough for a rate: `8.4`, `123`, `1.23k`, `45.6M`, `7.89B`."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            return _three_digits(number / limit) + unit
    return _three_digits(number)


def size(num_bytes: float) -> str:
    """`512 B`, `1.5 KB`, `2.4 GB`; powers of 1000, as object stores bill."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if num_bytes >= limit * 0.9995:
            return f"{_three_digits(num_bytes / limit)} {unit}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`: the two largest units that matter."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    largest = next(place for place, (length, _) in enumerate(units) if whole >= length)
    words = []
    for length, name in units[largest : largest + 2]:
        number, whole = divmod(whole, length)
        if number:
            words.append(f"{number} {name}")
    return " ".join(words)


def share(part: float, whole: float) -> str:
    """A percentage without decimals, and never `0%` or `100%` of something that is not so: `<1%`, `>99%`."""
    if whole <= 0:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "<1%"
    if 99 < percent < 100:
        return ">99%"
    return f"{percent:.0f}%"


def one_line(text: str, max_chars: int) -> str:
    """Text on one line of at most `max_chars` characters: runs of white space become one blank, the end an ellipsis."""
    # A slice first: a text of a megabyte is to be shortened, not to be read.
    line = " ".join(text[: 4 * max_chars].split())
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    if len(printable) <= max_chars and len(text) <= 4 * max_chars:
        return printable
    return printable[: max_chars - 1].rstrip() + "…"


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    if number >= 9.995:
        return f"{number:.1f}"
    return f"{number:.2f}".rstrip("0").rstrip(".")
