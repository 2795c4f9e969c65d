"""Parts of a unit that was cut in the search for what is wrong in it: their names, and what is left beside them.

    NAME                            a planned unit
    NAME.0003                       its fourth piece, if it has several
    NAME.0003.r000002048-end        of that piece's rows all from the 2049th; of a unit of one piece: NAME.r...
    NAME.0003.r000000000-000002048  and those before

A name says all of a part, so that a listing tells how a unit was cut, whoever cut it and however far they came. Names
sort in input order.

Parts may overlap: a worker that was given up long ago may still commit a whole whose halves are committed too. Of those
that begin together the longest counts, else the one that begins first; the rule looks at names alone, so everybody
comes to the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pipeline.units import Unit

Place = tuple[int, int]  # a piece of the unit, and a row of that piece
Span = tuple[Place, Place]  # from the one up to the other

_END = 1 << 40  # beyond all pieces
_PART = re.compile(r"[^.]+(?:\.(?P<piece>\d{4}))?(?:\.r(?P<first>\d{9,})-(?P<stop>\d{9,}|end))?")


def parent(name: str) -> str:
    """The planned unit that this one is, or is a part of."""
    return name.split(".", 1)[0]


def is_part(name: str) -> bool:
    """Whether a unit was cut out of a planned one."""
    return "." in name and is_name(name)


def is_name(name: str) -> bool:
    """Whether this can be the name of a planned unit or a part of one."""
    found = _PART.fullmatch(name)
    return found is not None and (found["stop"] in (None, "end") or int(found["first"]) < int(found["stop"]))


def is_range(unit: Unit) -> bool:
    """Whether a unit is some of its piece's rows."""
    return unit.first_row > 0 or unit.stop_row is not None


def by_piece(unit: Unit) -> tuple[Unit, ...]:
    """One unit a piece."""
    share = unit.size_bytes // len(unit.pieces)
    return tuple(
        replace(unit, name=f"{unit.name}.{index:04d}", pieces=(piece,), size_bytes=share)
        for index, piece in enumerate(unit.pieces)
    )


def halves(unit: Unit, num_rows: int) -> tuple[Unit, Unit]:
    """The rows of a unit of one piece in two; the last of all halves is open, should there be more rows than counted.

    Args:
        num_rows: of this unit, at least 2.
    """
    middle = unit.first_row + num_rows // 2
    return _rows(unit, unit.first_row, middle), _rows(unit, middle, unit.stop_row)


def winners(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those parts of one planned unit that count, in input order, and those that overlap with them.

    Args:
        names: of the planned unit itself and of parts of it, in any order.
    """
    won: list[str] = []
    lost: list[str] = []
    reached = (0, 0)
    longest_first = sorted(((start, (-stop[0], -stop[1]), name) for name in names for start, stop in [span(name)]))
    for start, _, name in longest_first:
        if start < reached:
            lost.append(name)
        else:
            won.append(name)
            reached = span(name)[1]
    return won, lost


def overlap(name: str, others: Iterable[str]) -> bool:
    """Whether a part of a planned unit has rows in common with others of the same."""
    start, stop = span(name)
    return any(start < their_stop and their_start < stop for their_start, their_stop in map(span, others))


def cover(planned: Unit, names: Sequence[str]) -> Iterator[Unit]:
    """A planned unit as parts, in input order: those that are named, and what is left between them.

    Args:
        names: parts that do not overlap.
    """
    end = (len(planned.pieces), 0)
    reached = (0, 0)
    for start, stop in sorted(map(span, names)):
        if start >= end:
            continue  # no part of this unit, whatever its name says
        yield from _units(planned, reached, start)
        reached = min(stop, end)
        yield from _units(planned, start, reached)
    yield from _units(planned, reached, end)


def span(name: str) -> Span:
    """Where a part begins and ends.

    Raises:
        ValueError: it is no name of ours.
    """
    found = _PART.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not the name of a unit")
    piece, first, stop = found["piece"], found["first"], found["stop"]
    index = int(piece or 0)
    after = (_END, 0) if piece is None else (index + 1, 0)  # a unit of one piece does not number it
    return (index, int(first or 0)), after if stop in (None, "end") else (index, int(stop))


def _units(planned: Unit, start: Place, stop: Place) -> Iterator[Unit]:
    """The units that make up a span: the planned one, pieces of it, or rows of pieces."""
    if start == (0, 0) and stop == (len(planned.pieces), 0):
        yield planned
        return
    pieces = by_piece(planned) if len(planned.pieces) > 1 else (planned,)
    while start < stop:
        index, first = start
        ends_inside = stop[0] == index
        last = stop[1] if ends_inside else None
        yield pieces[index] if (first, last) == (0, None) else _rows(pieces[index], first, last)
        start = stop if ends_inside else (index + 1, 0)


def _rows(unit: Unit, first: int, stop: int | None) -> Unit:
    """Rows of a unit of one piece, counted as in that piece."""
    whole = unit.name.partition(".r")[0]
    last = "end" if stop is None else f"{stop:09d}"
    name = f"{whole}.r{first:09d}-{last}"
    return replace(unit, name=name, first_row=first, stop_row=stop, size_bytes=max(1, unit.size_bytes // 2))
