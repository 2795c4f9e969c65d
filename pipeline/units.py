"""Files, pieces and units: what is planned, handed out and committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Format = Literal["parquet", "arrow", "arrow-stream", "jsonl", "csv", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One input object, as it was when it was listed."""

    url: str  # full URL, or an absolute local path
    format: Format
    compression: Literal["gzip", "zstd", "bz2", "xz"] | None = None  # of the file as a whole
    size_bytes: int
    fingerprint: str  # differs when the content does: etag, or size and mtime; or a digest of the content if so asked
    version: str | None = None  # with a digest: the etag, or size and mtime, that was seen with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A range of one input file.

    `start` and `stop` count row groups (parquet) or bytes (jsonl, text: a line belongs to the piece in which its first
    byte lies; arrow, arrow-stream: between two messages). `stop` None means to the end.
    """

    file: InputFile
    start: int = 0
    stop: int | None = None
    num_rows: int | None = None  # where the format tells without reading the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of work, retry and commit: about a kilobyte, whatever the size of what it describes."""

    name: str  # "00000-000012-3fa9c1d2": plan, place in it (so names sort in input order), digest of the pieces
    pieces: tuple[Piece, ...]
    size_bytes: int  # of input text, as estimated by the planner
    first_row: int = 0  # of the rows that the pieces give, in order, the unit is `first_row:stop_row`: a planned unit
    stop_row: int | None = None  # is all of them, one that was cut in the search for a bad row is a range

    @property
    def num_rows(self) -> int | None:
        """Rows in all pieces, or None where some format does not tell."""
        total = 0
        for piece in self.pieces:
            if piece.num_rows is None:
                return None
            total += piece.num_rows
        return total

    @property
    def output_name(self) -> str:
        """Name of the committed file, relative to the output folder: a function of the unit alone."""
        return part_name(self.name)


def part_name(unit_name: str) -> str:
    """Name of a unit's committed file."""
    return f"part-{unit_name}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """What a worker says of a unit that it has committed. Counts only: no row leaves the worker this way."""

    name: str
    num_rows: int  # in the output file; equals the rows read
    num_empty: int  # null or blank text: no result, and no fault of ours
    num_errors: int  # rows with an error other than being empty
    num_long: int  # texts longer than the model, processed in windows (or cut, if so asked)
    num_tokens: int
    output_bytes: int
    stage_s: dict[str, float] = field(default_factory=dict)  # busy seconds by stage; wait: the device's
    peak_memory_bytes: int = 0  # of the worker's process, so far
