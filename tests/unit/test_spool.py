"""A listing that is put aside in a temporary file, and the digests by which it is compared."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import islice
from typing import Any
from unittest import mock

import numpy as np
import pytest

from pipeline.errors import InputNotFound, StorageError
from pipeline.spool import CHUNK_FILES, Listing, spooled
from pipeline.units import InputFile
from pipeline.versions import Versions


def files(number: int) -> Iterator[InputFile]:
    for index in range(number):
        yield InputFile(
            url=f"s3://corpus/{index:05d}-文.jsonl.gz",
            format="jsonl",
            compression="gzip" if index % 2 else None,
            size_bytes=index,
            fingerprint=f"etag-{index}",
            version=None if index % 3 else "seen",
        )


@pytest.mark.parametrize("number", [0, 1, CHUNK_FILES, 2 * CHUNK_FILES + 1])
def test_a_listing_comes_back_as_it_was_however_often(number: int) -> None:
    expected = list(files(number))
    with spooled(files(number)) as listing:
        assert list(listing) == list(listing) == expected
        assert len(listing) == number
        assert listing.size_bytes == sum(file.size_bytes for file in expected)
        assert all(file in listing for file in expected[-1:])


def test_two_may_read_a_listing_at_the_same_time() -> None:
    with spooled(files(CHUNK_FILES + 5)) as listing:
        ahead = iter(listing)
        first = list(islice(ahead, 3))
        assert list(listing) == [*first, *ahead]


def test_a_listing_that_breaks_off_tells_why() -> None:
    def broken() -> Iterator[InputFile]:
        yield from files(3)
        raise InputNotFound("gone")

    with pytest.raises(InputNotFound, match="gone"), spooled(broken()):
        pass


def test_a_full_temporary_folder_is_told_as_such() -> None:
    full: Any = mock.Mock()
    full.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageError, match=r"No space left on device\. Make room there"):
        Listing(files(1), full)


def test_versions_tell_what_is_there_and_what_has_changed() -> None:
    there = list(files(3000))  # so many that some digests begin or end with a zero
    versions = Versions(there)
    places = [versions.place(file.url) for file in there]
    assert sorted(place for place in places if place is not None) == list(range(len(there)))
    for file, place in zip(there, places, strict=True):
        assert place is not None
        assert versions.is_current(place, file.fingerprint)
        assert not versions.is_current(place, file.fingerprint + "x")
    assert not any(versions.place(file.url + "x") for file in there)
    marks = np.zeros(len(versions), dtype=bool)
    marks[places[7]] = True
    assert versions.in_order(marks).nonzero()[0].tolist() == [7]


def test_of_no_files_there_are_no_versions() -> None:
    assert Versions([]).place("a") is None
    assert not len(Versions([]))


def test_a_file_that_is_listed_twice_has_one_place() -> None:
    (file,) = files(1)
    versions = Versions([file, file])
    assert versions.in_order(np.ones(len(versions), dtype=bool)).tolist() == [True, True]
