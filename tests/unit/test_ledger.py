"""What the ledger decides, case by case."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.ledger import RETRY_DELAY_S, Abort, Assign, Failure, Ledger, Quarantine, Retry, Split
from pipeline.units import InputFile, Piece, Unit


def unit(name: str, num_files: int = 1) -> Unit:
    files = [InputFile(url=f"/{name}/{i}", format="text", size_bytes=1, fingerprint="1") for i in range(num_files)]
    return Unit(name=name, pieces=tuple(Piece(file=file) for file in files), size_bytes=num_files)


def assigned(decisions: list[object]) -> list[tuple[str, str, int]]:
    return [(d.unit.name, d.worker, d.attempt) for d in decisions if isinstance(d, Assign)]


def test_units_go_in_order_to_the_worker_with_the_most_room() -> None:
    ledger = Ledger([unit(name) for name in "abcde"], slots=2)
    assert assigned([*ledger.worker_ready("w1", 0.0)]) == [("a", "w1", 1), ("b", "w1", 1)]
    assert assigned([*ledger.worker_ready("w2", 0.0)]) == [("c", "w2", 1), ("d", "w2", 1)]
    assert assigned([*ledger.unit_done("w2", "d", 1.0)]) == [("e", "w2", 1)]


def test_units_are_drawn_only_as_workers_ask() -> None:
    drawn: list[str] = []

    def units() -> Iterator[Unit]:
        for name in "abcdef":
            drawn.append(name)
            yield unit(name)

    ledger = Ledger(units(), slots=2)
    assert drawn == []
    ledger.worker_ready("w1", 0.0)
    assert drawn == ["a", "b"]


def test_a_failure_that_may_pass_is_tried_again_later_and_then_given_up() -> None:
    ledger = Ledger([unit("a")], max_attempts=2, slots=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="StorageUnavailable", message="slow down")

    (retry,) = ledger.unit_failed("w1", "a", failure, 10.0)
    assert retry == Retry(unit=unit("a"), attempt=1, reason="slow down")
    assert ledger.tick(10.0 + RETRY_DELAY_S / 2) == []
    assert not ledger.done
    assert assigned([*ledger.tick(10.0 + RETRY_DELAY_S)]) == [("a", "w1", 2)]

    (given_up,) = ledger.unit_failed("w1", "a", failure, 20.0)
    assert given_up == Quarantine(unit=unit("a"), attempts=2, reason="slow down")
    assert ledger.done


def test_a_failure_that_cannot_pass_is_given_up_at_once() -> None:
    ledger = Ledger([unit("a")], slots=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="FileUnreadable", message="truncated", retry=False, reach="file")
    assert ledger.unit_failed("w1", "a", failure, 0.0) == [Quarantine(unit=unit("a"), attempts=1, reason="truncated")]


def test_one_bad_file_of_several_splits_the_unit() -> None:
    ledger = Ledger([unit("a", num_files=3)], slots=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="FileUnreadable", message="truncated", retry=False, reach="file")
    split, first = ledger.unit_failed("w1", "a", failure, 0.0)
    assert isinstance(split, Split)
    assert [part.name for part in split.parts] == ["a.0000", "a.0001", "a.0002"]
    assert isinstance(first, Assign)
    assert first.unit == split.parts[0]


def test_a_failure_that_reaches_the_run_ends_it() -> None:
    ledger = Ledger([unit("a"), unit("b")], slots=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="StorageError", message="denied", retry=False, reach="run")
    assert Abort(failure=failure) in ledger.unit_failed("w1", "a", failure, 0.0)


def test_a_lost_workers_units_go_to_others() -> None:
    ledger = Ledger([unit("a"), unit("b")], slots=2)
    ledger.worker_ready("w1", 0.0)
    ledger.worker_ready("w2", 0.0)
    decisions = ledger.worker_lost("w1", "its node is gone", 0.0)
    assert [type(decision) for decision in decisions] == [Retry, Retry]
    assert assigned([*ledger.tick(RETRY_DELAY_S)]) == [("a", "w2", 2), ("b", "w2", 2)]


def test_news_of_a_worker_that_was_lost_changes_nothing() -> None:
    ledger = Ledger([unit("a")], slots=1)
    ledger.worker_ready("w1", 0.0)
    ledger.worker_lost("w1", "gone", 0.0)
    failure = Failure(kind="X", message="x")
    assert ledger.unit_failed("w1", "a", failure, 0.0) == []
    assert ledger.worker_lost("w1", "gone", 0.0) == []


def test_draining_finishes_what_is_in_hand_and_no_more() -> None:
    ledger = Ledger([unit("a"), unit("b"), unit("c")], slots=2)
    ledger.worker_ready("w1", 0.0)
    ledger.drain()
    assert not ledger.done
    assert ledger.unit_done("w1", "a", 1.0) == []
    handed_back = Failure(kind="HandedBack", message="given back")
    assert ledger.unit_failed("w1", "b", handed_back, 1.0) == []
    assert ledger.done
    assert ledger.unfinished


def test_draining_when_the_last_unit_is_in_hand_leaves_nothing() -> None:
    ledger = Ledger([unit("a")], slots=2)
    ledger.worker_ready("w1", 0.0)
    ledger.drain()
    ledger.unit_done("w1", "a", 1.0)
    assert ledger.done
    assert not ledger.unfinished


def test_a_unit_that_was_handed_back_goes_to_another_and_that_is_no_failed_attempt() -> None:
    ledger = Ledger([unit("a")], slots=1)
    ledger.worker_ready("w1", 0.0)
    handed_back = Failure(kind="HandedBack", message="given back")
    assert assigned([*ledger.unit_failed("w1", "a", handed_back, 1.0)]) == [("a", "w1", 1)]
