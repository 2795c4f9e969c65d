"""What the pipeline meets, as one tree.

    ShardmillError                    exit  retry  reach
    ├── SpecError                      2     no    run     the job spec or the command line is wrong
    ├── InputError                     4     no    run     the input as a whole cannot be used
    │   ├── InputNotFound              4     no    run     no such file, folder, bucket or Hub data set; no match
    │   └── ColumnError                4     no    run     the text column is missing or of another type
    ├── FileUnreadable                 4     no    file    damaged, truncated, not of its format
    │   └── FileChanged                4     no    file    not the file that was planned
    ├── StorageError                   4     no    run     refused, full, or not there
    │   ├── StorageNotFound            4     no    run     no such object or bucket
    │   └── StorageUnavailable         4     yes   unit    throttled, timed out, reset
    │       └── StorageUnreachable     4     yes   unit    nobody answers
    ├── OutputConflict                 5     no    run     the folder holds another job, or a driver is at work
    ├── CommitConflict                 1     no    unit    somebody else committed this unit: stop, all is well
    ├── HandedBack                     1     yes   unit    a worker that is to end gives the unit to others
    └── WorkerError                    1     yes   unit    a worker could not start, or died
        └── DeviceLost                 1     yes   unit    its process can use the device no more: it is to end

An error answers two questions: may the same attempt be retried, and how far does it reach. Messages say what was
expected, what was found, where, and what to do next; they never quote text of the corpus.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Reach = Literal["file", "unit", "run"]


class ShardmillError(Exception):
    """Root of everything that the pipeline raises on purpose."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    reach: ClassVar[Reach] = "run"


class SpecError(ShardmillError):
    """The job spec or the command line is wrong."""

    exit_code = 2


class InputError(ShardmillError):
    """The input as a whole cannot be used."""

    exit_code = 4


class InputNotFound(InputError):
    """No such file, folder, bucket or Hub data set, or nothing matches a glob."""


class ColumnError(InputError):
    """The text column (or a kept one) is missing, or has another type."""


class FileUnreadable(ShardmillError):
    """One file is damaged, truncated, or not of its format; the others are not concerned."""

    exit_code = 4
    reach = "file"


class FileChanged(FileUnreadable):
    """The file is not the one that was planned: run the job again to plan it anew."""


class StorageError(ShardmillError):
    """Storage refused, is full, or is not there; a retry does not help."""

    exit_code = 4


class StorageNotFound(StorageError):
    """No such object; or, with `container_missing`, not even the bucket in which it would lie."""

    def __init__(self, message: str, *, container_missing: bool = False) -> None:
        super().__init__(message)
        self.container_missing = container_missing


class StorageUnavailable(StorageError):
    """Storage was throttled, timed out or reset the connection; a later retry may help."""

    retry = True
    reach = "unit"


class StorageUnreachable(StorageUnavailable):
    """No connection could be made: nobody answers at the endpoint, or its name is not known."""


class OutputConflict(ShardmillError):
    """The output folder belongs to another job, or another driver is writing to it."""

    exit_code = 5


class CommitConflict(ShardmillError):
    """Somebody else committed this unit: the work is done, this attempt is to be dropped."""

    reach = "unit"


class HandedBack(ShardmillError):
    """A worker that is to end has not begun with the unit, and gives it back."""

    retry = True
    reach = "unit"


class WorkerError(ShardmillError):
    """A worker could not start, or died."""

    retry = True
    reach = "unit"


class DeviceLost(WorkerError):
    """A worker's process cannot use its device any more, whatever it is asked to do: it must end."""
