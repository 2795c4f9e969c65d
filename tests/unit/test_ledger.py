"""What the ledger decides, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.cutting import parent
from pipeline.decisions import Abort, Assign, Decision, Drop, End, Failure, Quarantine, Retire, Retry, Split
from pipeline.ledger import (
    LOAD_S,
    MAX_HUNG_LOADING,
    MAX_LOST_TO_SUSPECTS,
    MAX_LOST_WORKERS,
    RETRY_DELAY_S,
    STALL_S,
    STRAGGLER_S,
    Ledger,
)
from pipeline.units import InputFile, Piece, Unit


def unit(name: str, num_files: int = 1) -> Unit:
    files = [InputFile(url=f"/{name}/{i}", format="text", size_bytes=1, fingerprint="1") for i in range(num_files)]
    return Unit(name=name, pieces=tuple(Piece(file=file) for file in files), size_bytes=num_files)


def assigned(decisions: list[Decision]) -> list[tuple[str, str, int]]:
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
    failure = Failure(kind="RuntimeError", message="odd")

    (retry,) = ledger.unit_failed("w1", "a", failure, 10.0)
    assert retry == Retry(unit=unit("a"), attempt=1, reason="odd")
    assert ledger.tick(10.0 + RETRY_DELAY_S / 2) == []
    assert not ledger.done
    assert assigned([*ledger.tick(10.0 + RETRY_DELAY_S)]) == [("a", "w1", 2)]

    given_up = ledger.unit_failed("w1", "a", failure, 20.0)[0]
    assert given_up == Quarantine(unit=unit("a"), attempts=2, reason="odd")
    assert ledger.done


def test_storage_that_fails_one_unit_while_others_go_well_costs_that_unit() -> None:
    ledger = Ledger([unit("a"), unit("b")], max_attempts=1)
    ledger.worker_ready("w1", 0.0)
    ledger.unit_done("w1", "b", 1.0)
    failure = Failure(kind="StorageUnavailable", message="slow down")
    assert Quarantine(unit=unit("a"), attempts=1, reason="slow down") in ledger.unit_failed("w1", "a", failure, 2.0)


def test_storage_that_fails_and_nothing_goes_well_meanwhile_ends_the_run() -> None:
    ledger = Ledger([unit("a"), unit("b")], max_attempts=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="StorageUnavailable", message="slow down")
    assert Abort(failure=failure) in ledger.unit_failed("w1", "a", failure, 2.0)


def test_a_failure_that_cannot_pass_is_given_up_at_once() -> None:
    ledger = Ledger([unit("a")], slots=1)
    ledger.worker_ready("w1", 0.0)
    failure = Failure(kind="FileUnreadable", message="truncated", retry=False, reach="file")
    assert Quarantine(unit=unit("a"), attempts=1, reason="truncated") in ledger.unit_failed("w1", "a", failure, 0.0)


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
    assert [type(decision) for decision in decisions] == [Retry, Retry, Assign]
    assert decisions[-1] == Assign(unit=unit("a"), worker="w2", attempt=1, alone=True)


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


def lost_alone(ledger: Ledger, name: str, num_rows: int | None, attempt: int, now: float) -> list[Decision]:
    """A worker gets a suspect, counts its rows (or dies of that already) and is lost."""
    worker = f"{name}-{attempt}"
    given = [*ledger.worker_ready(worker, now)]
    assert [(d.unit.name, d.alone) for d in given if isinstance(d, Assign)] == [(name, True)]
    if num_rows is not None:
        ledger.unit_counted(worker, name, num_rows, now)
    return ledger.worker_lost(worker, "it died", now)


def suspects_of_one_loss(num_units: int = 1, num_files: int = 1) -> Ledger:
    ledger = Ledger([unit(name, num_files) for name in "abc"[:num_units]], max_attempts=2)
    ledger.worker_ready("w1", 0.0)
    ledger.worker_lost("w1", "it died", 0.0)
    return ledger


def test_a_suspect_gets_a_worker_to_itself_while_the_others_go_on() -> None:
    ledger = Ledger([unit(name) for name in "abcdefgh"], slots=2)
    for worker in ("w1", "w2", "w3"):
        ledger.worker_ready(worker, 0.0)
    assert assigned(ledger.worker_lost("w1", "it died", 1.0)) == []  # a and b wait for empty hands
    assert assigned(ledger.unit_done("w2", "c", 2.0)) == []
    assert assigned(ledger.unit_done("w2", "d", 3.0)) == [("a", "w2", 1)]
    assert assigned(ledger.unit_done("w3", "e", 4.0)) == []
    assert assigned(ledger.unit_done("w2", "a", 5.0)) == [("b", "w2", 1), ("g", "w3", 1)]


def test_a_suspect_that_is_done_is_cleared() -> None:
    ledger = suspects_of_one_loss()
    ledger.worker_ready("w2", 1.0)
    ledger.unit_done("w2", "a", 2.0)
    assert ledger.done
    assert not ledger.unfinished


def test_a_unit_that_ends_its_workers_is_cut_until_the_row_is_alone() -> None:
    ledger = suspects_of_one_loss()
    lost_alone(ledger, "a", 4, 1, 10.0)
    (cut,) = [d for d in lost_alone(ledger, "a", 4, 2, 20.0) if isinstance(d, Split)]
    left, right = cut.parts
    assert [(p.name, p.first_row, p.stop_row) for p in cut.parts] == [
        ("a.r000000000-000000002", 0, 2),
        ("a.r000000002-end", 2, None),
    ]
    ledger.worker_ready("w2", 30.0)
    ledger.unit_done("w2", left.name, 30.0)  # this half is innocent
    ledger.worker_lost("w2", "it died", 30.0)  # and the other costs one more worker
    ledger.worker_ready("w3", 40.0)
    ledger.unit_counted("w3", right.name, 2, 40.0)
    (cut,) = [d for d in ledger.worker_lost("w3", "it died", 40.0) if isinstance(d, Split)]
    assert [p.name for p in cut.parts] == ["a.r000000002-000000003", "a.r000000003-end"]


def test_half_a_unit_is_cut_after_one_failure_and_a_row_given_up_after_all() -> None:
    half = replace(unit("a.r000000002-end"), first_row=2)
    ledger = Ledger([half], max_attempts=2)
    (cut,) = [d for d in lost_alone(ledger, half.name, 2, 1, 0.0) if isinstance(d, Split)]
    assert [part.name for part in cut.parts] == ["a.r000000002-000000003", "a.r000000003-end"]
    first = cut.parts[0].name
    lost_alone(ledger, first, 1, 1, 10.0)
    ledger.worker_ready("w", 10.0)
    ledger.unit_done("w", cut.parts[1].name, 10.0)
    ledger.worker_leaving("w", 10.0)
    (given_up,) = [d for d in lost_alone(ledger, first, 1, 2, 20.0) if isinstance(d, Quarantine)]
    assert (given_up.unit.name, given_up.attempts) == (first, 2)


def test_a_file_that_cannot_even_be_counted_is_given_up_whole() -> None:
    ledger = suspects_of_one_loss()
    lost_alone(ledger, "a", None, 1, 10.0)
    (given_up,) = lost_alone(ledger, "a", None, 2, 20.0)
    assert isinstance(given_up, Quarantine)
    assert "it died" in given_up.reason


@pytest.mark.parametrize(("num_rows", "stop_row"), [(1, 10), (None, None)])
def test_the_last_range_of_a_unit_is_given_up_as_far_as_it_was_counted(
    num_rows: int | None, stop_row: int | None
) -> None:
    last = replace(unit("a.r000000009-end"), first_row=9)
    ledger = Ledger([last], max_attempts=1)
    (given_up,) = [d for d in lost_alone(ledger, last.name, num_rows, 1, 0.0) if isinstance(d, Quarantine)]
    assert given_up.unit == replace(last, stop_row=stop_row)


def test_a_unit_of_several_files_is_cut_by_file_first() -> None:
    ledger = suspects_of_one_loss(num_files=2)
    lost_alone(ledger, "a", None, 1, 10.0)
    (cut,) = [d for d in lost_alone(ledger, "a", None, 2, 20.0) if isinstance(d, Split)]
    assert [part.name for part in cut.parts] == ["a.0000", "a.0001"]
    again = [d for d in ledger.worker_ready("w", 20.0) if isinstance(d, Assign)]
    assert [(d.unit.name, d.alone) for d in again] == [("a.0000", True)]


def test_workers_that_are_lost_for_no_unit_end_the_run() -> None:
    ledger = Ledger([unit("a")])
    for number in range(MAX_LOST_WORKERS - 1):
        assert ledger.worker_lost(f"w{number}", "no memory", 0.0) == []
    (abort,) = ledger.worker_lost("w", "no memory", 0.0)
    assert isinstance(abort, Abort)
    assert abort.failure.message == f"{MAX_LOST_WORKERS} workers were lost in a row; the last: no memory"


def test_a_node_that_takes_all_its_workers_with_it_does_not_end_the_run() -> None:
    names = [f"w{number}" for number in range(2 * MAX_LOST_WORKERS)]
    ledger = Ledger([unit(f"{number:03d}") for number in range(100)])
    for name in names:
        ledger.worker_ready(name, 0.0)
    lost = [decision for name in names for decision in ledger.worker_lost(name, "its node died", 1.0)]
    assert len([d for d in lost if isinstance(d, Retry)]) == 4 * MAX_LOST_WORKERS  # two units each
    assert not any(isinstance(d, Abort) for d in lost)
    for number in range(MAX_LOST_WORKERS - 2):  # those that came instead
        assert ledger.worker_lost(f"v{number}", "no memory", 2.0) == []
    (abort,) = ledger.worker_lost("v", "no memory", 2.0)
    assert isinstance(abort, Abort)


def test_everything_that_ends_its_worker_ends_the_run() -> None:
    ledger = Ledger([unit(f"{number:03d}") for number in range(100)], max_attempts=3)
    decisions: list[Decision] = []
    for number in range(MAX_LOST_TO_SUSPECTS + MAX_LOST_WORKERS):
        now = number * 100.0
        decisions = ledger.worker_ready(f"w{number}", now)
        for decision in decisions:
            if isinstance(decision, Assign) and decision.alone:
                ledger.unit_counted(f"w{number}", decision.unit.name, 1000, now)
        decisions = ledger.worker_lost(f"w{number}", "it died", now)
        if any(isinstance(decision, Abort) for decision in decisions):
            break
    (abort,) = [decision for decision in decisions if isinstance(decision, Abort)]
    assert "it is not a bad row that ends them; the last: it died" in abort.failure.message


def test_a_worker_that_leaves_is_nobodys_fault() -> None:
    ledger = Ledger([unit("a"), unit("b"), unit("c")], slots=2)
    ledger.worker_ready("w1", 0.0)
    ledger.worker_leaving("w1", 0.0)
    assert ledger.wanted(1) - (1 - ledger.num_gone) == 1  # another is to be started
    handed_back = Failure(kind="HandedBack", message="given back")
    assert ledger.unit_failed("w1", "b", handed_back, 1.0) == []
    assert assigned(ledger.worker_ready("w2", 2.0)) == [("b", "w2", 1), ("c", "w2", 1)]
    assert ledger.worker_lost("w1", "its machine is gone", 3.0) == []
    assert assigned(ledger.unit_done("w2", "b", 4.0)) == [("a", "w2", 1)]


def test_a_worker_that_shows_no_step_is_ended_and_its_units_are_suspects() -> None:
    ledger = Ledger([unit("a")])
    ledger.worker_ready("w1", 0.0)
    for second in range(1, 100):
        ledger.worker_progressed("w1", second, float(second))
    for second in range(100, 100 + int(STALL_S)):
        assert ledger.worker_progressed("w1", 99, float(second)) == []
    end, retry = ledger.tick(100 + STALL_S)
    assert isinstance(end, End)
    assert end.worker == "w1"
    assert "no step in 600 s (limits.stall_s)" in end.reason
    assert isinstance(retry, Retry)
    assert ledger.worker_lost("w1", "killed", 100 + STALL_S) == []
    assert not ledger.holds("w1", "a")


def test_a_driver_that_slept_ends_nobody() -> None:
    ledger = Ledger([unit("a")])
    ledger.worker_ready("w1", 0.0)
    assert ledger.tick(10 * STALL_S) == []
    assert ledger.tick(10 * STALL_S + 5.0) == []


def test_a_worker_that_hangs_while_it_loads_its_model_is_replaced() -> None:
    ledger = Ledger([unit("a")])
    ledger.worker_progressed("w1", 0, 0.0)
    assert [decision for second in range(1, int(LOAD_S) + 1) for decision in ledger.tick(float(second))] == []
    assert ledger.num_gone == 0
    (end,) = ledger.worker_progressed("w1", 0, LOAD_S + 1)
    assert isinstance(end, End)
    assert (end.worker, ledger.num_gone) == ("w1", 1)
    assert "not loaded after 1800 s (limits.load_s)" in end.reason
    assert ledger.worker_ready("w1", LOAD_S + 2) == []
    assert assigned(ledger.worker_ready("w2", LOAD_S + 2)) == [("a", "w2", 1)]


@pytest.mark.parametrize("one_is_ready", [False, True])
def test_workers_that_hang_one_after_another_while_they_load_end_the_run(one_is_ready: bool) -> None:
    ledger = Ledger([unit("a")], load_s=10.0)
    decisions: list[Decision] = []
    for number in range(MAX_HUNG_LOADING):
        if one_is_ready and number == 1:
            ledger.worker_ready("w", number * 20.0)
        ledger.worker_progressed(f"w{number}", 0, number * 20.0)
        decisions = ledger.tick(number * 20.0 + 11.0)
    aborts = [decision for decision in decisions if isinstance(decision, Abort)]
    assert len(aborts) == (not one_is_ready)
    if aborts:
        assert "3 times in a row no worker has loaded the model in 10 s." in aborts[0].failure.message


def test_workers_that_hang_together_while_they_load_are_one_attempt() -> None:
    ledger = Ledger([unit("a")], load_s=10.0)
    for number in range(20):
        ledger.worker_progressed(f"w{number}", 0, 0.0)
    decisions = ledger.tick(11.0)
    assert len(decisions) == 20
    assert all(isinstance(decision, End) for decision in decisions)
    assert ledger.num_gone == 20


def three_quick_ones_and_a_straggler() -> Ledger:
    ledger = Ledger([unit(name) for name in "abcd"], slots=1)
    for worker in ("w1", "w2", "w3", "w4"):
        ledger.worker_ready(worker, 0.0)
    for worker, name in (("w1", "a"), ("w2", "b"), ("w3", "c")):
        ledger.unit_done(worker, name, 1.0)
    return ledger


def test_a_straggler_is_given_to_a_second_worker_and_whoever_is_first_counts() -> None:
    ledger = three_quick_ones_and_a_straggler()
    assert ledger.tick(STRAGGLER_S) == []
    (copy,) = ledger.tick(STRAGGLER_S + 1.0)
    assert copy == Assign(unit=unit("d"), worker="w1", attempt=1, copy=True)
    assert Drop(unit="d", worker="w4") in ledger.unit_done("w1", "d", 20.0)
    assert not ledger.holds("w4", "d")
    assert ledger.done


@pytest.mark.parametrize("kind", ["WorkerLost", "FileUnreadable"])
def test_a_copy_that_fails_while_the_other_goes_on_does_not_count(kind: str) -> None:
    ledger = three_quick_ones_and_a_straggler()
    ledger.tick(STRAGGLER_S + 1.0)
    if kind == "WorkerLost":
        assert ledger.worker_lost("w1", "gone", 20.0) == []
    else:
        failure = Failure(kind=kind, message="cut off", retry=False, reach="file")
        assert [type(d) for d in ledger.unit_failed("w1", "d", failure, 20.0)] == [Assign]  # to try once more
    assert ledger.holds("w4", "d")


def test_workers_that_are_not_needed_are_given_up_near_the_end() -> None:
    ledger = Ledger([unit(name) for name in "abcd"], slots=1)
    for worker in ("w1", "w2", "w3", "w4"):
        ledger.worker_ready(worker, 0.0)
    assert ledger.unit_done("w1", "a", 1.0) == []
    assert ledger.unit_done("w2", "b", 1.0) == []  # as many idle as at work: for what may have to be done again
    assert ledger.unit_done("w3", "c", 1.0) == [Retire(worker="w2"), Retire(worker="w3")]
    assert ledger.wanted(4) == 1


def test_a_worker_that_is_ready_late_or_twice_gets_what_is_left() -> None:
    ledger = Ledger([unit(name) for name in "abc"], slots=1)
    ledger.worker_ready("w1", 0.0)
    assert assigned(ledger.worker_ready("w2", 50.0)) == [("b", "w2", 1)]
    assert ledger.worker_ready("w2", 51.0) == []
    assert ledger.holds("w2", "b")


def test_names_of_parts_tell_the_planned_unit() -> None:
    assert parent("00000-000012-3fa9c1d2.0003.r000000000-000002048") == "00000-000012-3fa9c1d2"
