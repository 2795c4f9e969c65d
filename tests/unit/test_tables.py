"""Results as tables on screen."""

import io

import pyarrow as pa
from rich.console import Console

from jobs.tables import results_table


def shown(table: pa.Table, text: str = "text", styled: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=120,
        force_terminal=styled,
        color_system="standard" if styled else None,
        legacy_windows=False,
    )
    console.print(results_table(table, text=text, title="job"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def entity(label: str, text: str, start: int) -> dict[str, object]:
    return {"label": label, "score": 0.99, "start": start, "end": start + len(text), "text": text}


def test_entities_are_named_and_highlighted_in_the_text() -> None:
    text = "Ada Lovelace\nmet Charles in London"
    table = pa.table(
        {"id": [1], "text": [text], "entities": [[entity("PER", "Ada Lovelace", 0), entity("LOC", "London", 28)]]}
    )
    plain = shown(table)
    assert "Ada Lovelace→PER, London→LOC" in plain
    assert "Ada Lovelace met Charles in London" in plain
    styled = shown(table, styled=True)
    assert "\x1b[1;36mAda Lovelace\x1b[0m met Charles in \x1b[1;35mLondon\x1b[0m" in styled


def test_rows_without_a_result_say_why() -> None:
    table = pa.table(
        {
            "text": pa.array(["  ", None, "fine"]),
            "label": pa.array([None, None, "sport"]),
            "score": pa.array([None, None, 0.98765]),
            "error": pa.array(["text is empty", "text is null", None]),
        }
    )
    lines = shown(table).splitlines()
    assert any("empty" in line and "text is empty" in line for line in lines)
    assert any("null" in line and "text is null" in line for line in lines)
    assert any("fine" in line and "sport" in line and "0.988" in line for line in lines)


def test_all_labels_or_the_first_ones() -> None:
    labels = ["a", "b", "c", "d", "e"]
    table = pa.table(
        {
            "text": ["x", "y"],
            "label": ["a", None],
            "score": [0.5, None],
            "labels": [labels, []],
            "scores": [[0.5] * 5, []],
        }
    )
    assert "a 0.500, b 0.500, c 0.500, and 2 more" in shown(table)
    assert "none" in shown(table)


def test_regressions() -> None:
    assert "3.142" in shown(pa.table({"text": ["x"], "score": [3.14159]}))
    several = pa.table({"text": ["x"], "score": [{"joy": 0.5, "fear": 0.25}]})
    assert "joy 0.500, fear 0.250" in shown(several)


def test_embeddings_are_cut_to_their_first_numbers() -> None:
    table = pa.table({"text": ["x"], "embedding": pa.array([[0.5] * 384], pa.list_(pa.float32(), 384))})
    assert "[+0.50, +0.50, +0.50, +0.50, …] 384 numbers" in shown(table)


def test_text_is_shortened_and_never_read_as_markup() -> None:
    table = pa.table({"text": ["[bold]not markup[/bold] \x1b[31m" + "long " * 1000], "label": ["x"], "score": [1.0]})
    plain = shown(table)
    assert "[bold]not markup[/bold]" in plain
    assert "\x1b" not in plain
    assert "…" in plain
    assert len(plain.splitlines()) < 12
