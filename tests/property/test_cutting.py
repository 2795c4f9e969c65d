"""However a unit was cut, and whoever committed which part: what counts and what is left is every row once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cutting import by_piece, cover, halves, is_part, parent, span, winners
from pipeline.units import InputFile, Piece, Unit

NAME = "00000-000012-3fa9c1d2"
NUM_ROWS = 40  # of each piece


def planned(num_pieces: int) -> Unit:
    files = [InputFile(url=f"/in/{i}", format="text", size_bytes=1, fingerprint="1") for i in range(num_pieces)]
    return Unit(name=NAME, pieces=tuple(Piece(file=file) for file in files), size_bytes=num_pieces)


def rows(unit: Unit) -> list[tuple[str, int]]:
    """Every row, as a reader gives them."""
    everything = [(piece.file.url, row) for piece in unit.pieces for row in range(NUM_ROWS)]
    return everything[unit.first_row : unit.stop_row]


def random_part(draw: st.DrawFn, unit: Unit) -> Unit:
    """Cuts a few times, and goes on with one of the parts."""
    for _ in range(draw(st.integers(0, 6))):
        if len(unit.pieces) > 1:
            unit = draw(st.sampled_from(by_piece(unit)))
        elif len(rows(unit)) > 1:
            off_by = draw(st.integers(-1, 1))  # parts of different runs need not be cut at the same places
            unit = draw(st.sampled_from(halves(unit, max(2, len(rows(unit)) + off_by))))
    return unit


@st.composite
def parts(draw: st.DrawFn) -> tuple[Unit, list[Unit]]:
    whole = planned(draw(st.integers(1, 3)))
    found = [random_part(draw, whole) for _ in range(draw(st.integers(0, 6)))]
    return whole, list({unit.name: unit for unit in found}.values())


@given(parts())
def test_what_counts_and_what_is_left_is_every_row_once_and_in_order(case: tuple[Unit, list[Unit]]) -> None:
    whole, found = case
    won, lost = winners([unit.name for unit in found])
    assert sorted([*won, *lost]) == sorted(unit.name for unit in found)
    covering = list(cover(whole, won))
    assert [row for unit in covering for row in rows(unit)] == rows(whole)
    assert set(won) <= {unit.name for unit in covering}
    same = {unit.name: unit for unit in found}
    assert all(rows(unit) == rows(same[unit.name]) for unit in covering if unit.name in same)


@given(parts(), st.randoms())
def test_the_order_of_a_listing_does_not_matter(case: tuple[Unit, list[Unit]], random: st.DataObject) -> None:
    names = [unit.name for unit in case[1]]
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert winners(names)[0] == winners(shuffled)[0]


@given(parts())
def test_names_sort_in_input_order_and_tell_their_rows(case: tuple[Unit, list[Unit]]) -> None:
    whole, found = case
    for unit in found:
        assert parent(unit.name) == whole.name
        assert is_part(unit.name) == (unit.name != whole.name)
    won, _ = winners([unit.name for unit in found])
    assert won == sorted(won)
    assert [span(name) for name in won] == sorted(span(name) for name in won)


def test_the_whole_counts_before_its_halves_and_they_before_nothing() -> None:
    left, right = halves(planned(1), NUM_ROWS)
    assert winners([left.name, NAME, right.name]) == ([NAME], [left.name, right.name])
    assert [unit.name for unit in cover(planned(1), [right.name])] == [left.name, right.name]
    assert [unit.name for unit in cover(planned(1), [])] == [NAME]
