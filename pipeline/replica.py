"""One engine at work on units, its stages overlapping, across unit boundaries too. Plain Python: it knows no Ray.

    submit ─▶ read ─▶ tokenize ─▶ forward ─▶ write ─▶ commit

Every stage is a thread with a bounded queue before it: while one window is on the device the next is read and
tokenized and the last is decoded and written. A GPU is sent a window or two ahead of the one that it is at, so that it
never waits for the host. Memory holds a few windows, whatever the size of a unit.
Rows that make a stage fail are found and marked (see `pipeline.isolate`); what else goes wrong ends the unit.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import isolate
from pipeline.device import Moment
from pipeline.engine import Engine, Launched, Results, Window
from pipeline.errors import CommitConflict, HandedBack, WorkerError
from pipeline.options import InputOptions, OutputOptions
from pipeline.reader import RawBatch, read_unit
from pipeline.staging import StagingFolder
from pipeline.storage import Storage
from pipeline.units import Unit, UnitReport
from pipeline.windows import windows
from pipeline.writer import PartWriter

logger = logging.getLogger(__name__)

_QUEUED_WINDOWS = 2  # before each stage: one being made, one ready
_END = None  # instead of a window: the unit has no more


@dataclass(slots=True, eq=False)
class _Work:
    """A unit on its way through the stages. Each field is written by one stage only."""

    unit: Unit
    future: Future[UnitReport]
    writer: PartWriter | None = None
    begun: bool = False  # on the device
    stage_s: dict[str, float] = field(default_factory=dict)
    num_empty: int = 0
    num_errors: int = 0
    num_long: int = 0
    num_tokens: int = 0

    @property
    def over(self) -> bool:
        """Failed at some stage: what is still on its way is dropped."""
        return self.future.done()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.took(stage, time.perf_counter() - begun)

    def took(self, stage: str, seconds: float) -> None:
        self.stage_s[stage] = self.stage_s.get(stage, 0.0) + seconds


class Replica:
    """Turns units into committed part files, several in hand at once."""

    def __init__(
        self,
        engine: Engine,
        *,
        source: InputOptions,
        input_schema: pa.Schema,
        output: Storage,
        options: OutputOptions,
    ) -> None:
        """
        Args:
            engine: the loaded model; from now on this replica's alone.
            input_schema: the text and kept columns with the types that hold for the whole job.
            output: where parts are committed.
        """
        self._engine = engine
        self._source = source
        self._input_schema = input_schema
        self._output = output
        self._options = options
        kept = [input_schema.field(name) for name in options.keep]
        self._schema = pa.schema([*kept, *engine.schema])
        self._staging = StagingFolder()
        self._closed = self._leaving = False
        self._in_hand: set[_Work] = set()
        self._idle_since: Moment | None = None  # the device, once it has been given something to do
        self._steps = dict.fromkeys(("read", "tokenize", "forward", "write"), 0)  # each counted by its own thread
        self._to_read: queue.Queue[Any] = queue.Queue()
        self._to_tokenize: queue.Queue[Any] = queue.Queue(_QUEUED_WINDOWS)
        self._to_forward: queue.Queue[Any] = queue.Queue(_QUEUED_WINDOWS)
        self._to_write: queue.Queue[Any] = queue.Queue(_QUEUED_WINDOWS)
        self._threads = [
            threading.Thread(target=self._read_all, name="read", daemon=True),
            self._stage("tokenize", self._tokenize, self._to_tokenize, self._to_forward),
            self._stage("forward", self._forward, self._to_forward, self._to_write),
            self._stage("write", self._write, self._to_write, None),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_steps(self) -> int:
        """Batches read and computed, and windows passed on, so far: it grows while work goes on."""
        return sum(self._steps.values()) + self._engine.num_batches

    def submit(self, unit: Unit) -> Future[UnitReport]:
        """Queues a unit; the future gives its report once its part is committed, or the error that ended it."""
        if self._closed:
            raise WorkerError("the replica is closed")
        self._idle_since = self._idle_since or Moment(self._engine.device)
        work = _Work(unit=unit, future=Future())
        self._in_hand.add(work)
        work.future.add_done_callback(lambda _: self._in_hand.discard(work))
        if self._leaving:
            self._give_back(work)
        else:
            self._to_read.put(work)
        return work.future

    def count(self, unit: Unit) -> int:
        """How many rows a unit has. They are read where the format does not tell; the model does not see them."""
        if unit.num_rows is not None and (unit.first_row, unit.stop_row) == (0, None):
            return unit.num_rows
        num_rows = 0
        for batch in self._counted(self._read(unit)):
            if self._leaving:
                raise _handed_back(unit)
            num_rows += len(batch.texts)
        return num_rows

    def drop(self, unit: str) -> None:
        """Ends a unit with `HandedBack`, wherever it is, unless it is just being committed."""
        for work in list(self._in_hand):
            if work.unit.name == unit:
                self._give_back(work)

    def hand_back(self) -> None:
        """Ends the units that are not on the device yet with `HandedBack`, and takes no more.

        The others go on to their commit.
        """
        self._leaving = True
        for work in list(self._in_hand):
            if not work.begun:
                self._give_back(work)

    def leave(self, grace_s: float) -> None:
        """As `hand_back`, and waits until the rest is committed.

        What is not after `grace_s` is handed back too.
        """
        self.hand_back()
        wait([work.future for work in list(self._in_hand)], grace_s)
        for work in list(self._in_hand):
            self._give_back(work)

    def close(self) -> None:
        """Drops what is in hand, and ends the threads."""
        if self._closed:
            return
        self._closed = True
        for work in list(self._in_hand):
            self._give_back(work)
        self._to_read.put(_END)
        for thread in self._threads:
            thread.join()
        self._staging.remove()

    # The stages. Each takes (work, item) and gives the next stage's item; an error ends the unit, not the replica.

    def _read_all(self) -> None:
        while (work := self._to_read.get()) is not _END:
            try:
                for window in self._timed_read(work):
                    if work.over:
                        break
                    self._to_tokenize.put((work, window))
            except BaseException as error:
                self._fail(work, error)
            self._to_tokenize.put((work, _END))
        self._to_tokenize.put(_END)

    def _timed_read(self, work: _Work) -> Iterator[RawBatch]:
        source = windows(self._counted(self._read(work.unit)))
        while True:
            with work.timed("read"):
                window = next(source, None)
            if window is None:
                return
            yield window

    def _counted(self, batches: Iterable[RawBatch]) -> Iterator[RawBatch]:
        for batch in batches:
            self._steps["read"] += 1
            yield batch

    def _read(self, unit: Unit) -> Iterator[RawBatch]:
        return read_unit(
            unit,
            text=self._source.text,
            text_pair=self._source.text_pair,
            keep=self._options.keep,
            schema=self._input_schema,
            storage_options=self._source.storage,
        )

    def _tokenize(self, work: _Work, batch: RawBatch | None) -> tuple[RawBatch, Window] | None:
        if batch is None:
            return _END
        with work.timed("tokenize"):
            return isolate.encode(self._engine, batch)

    def _forward(self, work: _Work, item: tuple[RawBatch, Window] | None) -> tuple[RawBatch, Window, Launched] | None:
        if item is None:
            return _END
        work.begun = True
        return isolate.launch(self._engine, *item)

    def _write(self, work: _Work, item: tuple[RawBatch, Window, Launched] | None) -> None:
        if work.writer is None:
            work.writer = PartWriter(self._schema, self._staging.make(), compression=self._options.compression)
        if item is None:
            report = self._commit(work, work.writer)
            with suppress(InvalidStateError):  # it was handed back a moment too late: the commit counts all the same
                work.future.set_result(report)
            return
        batch, window, launched = item
        outputs = isolate.collect(self._engine, launched)
        work.took("wait", launched.begun.since(self._idle_since or launched.begun))
        work.took("forward", launched.seconds)
        self._idle_since = launched.ended
        with work.timed("decode"):
            results = isolate.decode(self._engine, batch, window, outputs)
            self._count(work, results)
        with work.timed("write"):
            columns = [*batch.kept.columns, *results.columns.columns]
            work.writer.write(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def _count(self, work: _Work, results: Results) -> None:
        work.num_empty += results.num_empty
        work.num_errors += results.num_errors
        work.num_long += results.num_long
        work.num_tokens += results.num_tokens

    def _commit(self, work: _Work, writer: PartWriter) -> UnitReport:
        with work.timed("commit"):
            size = writer.close(
                {
                    "unit": work.unit.name,
                    "num_rows": writer.num_rows,
                    "num_empty": work.num_empty,
                    "num_errors": work.num_errors,
                    "num_tokens": work.num_tokens,
                    "pieces": [
                        {"url": piece.file.url, "fingerprint": piece.file.fingerprint, "start": piece.start,
                         "stop": piece.stop}
                        for piece in work.unit.pieces
                    ],
                    "rows": [work.unit.first_row, work.unit.stop_row],
                }
            )  # fmt: skip
            try:
                self._output.put_file(writer.path, work.unit.output_name, exclusive=True)
            except CommitConflict:
                # The part is whole, and a function of the unit alone: another attempt has done our work.
                logger.info("unit %s was committed by another attempt", work.unit.name)
            finally:
                writer.discard()
                self._staging.remove_if_empty()
        return UnitReport(
            name=work.unit.name,
            num_rows=writer.num_rows,
            num_empty=work.num_empty,
            num_errors=work.num_errors,
            num_long=work.num_long,
            num_tokens=work.num_tokens,
            output_bytes=size,
            stage_s=dict(work.stage_s),
            peak_memory_bytes=peak_memory_bytes(),
        )

    def _give_back(self, work: _Work) -> None:
        self._fail(work, _handed_back(work.unit))

    def _fail(self, work: _Work, error: BaseException) -> None:
        with suppress(InvalidStateError):  # it has ended already
            work.future.set_exception(error)

    def _stage(
        self,
        name: str,
        step: Callable[[_Work, Any], Any],
        source: queue.Queue[Any],
        sink: queue.Queue[Any] | None,
    ) -> threading.Thread:
        def loop() -> None:
            while (got := source.get()) is not _END:
                work, item = got
                result = _END
                if not work.over:
                    try:
                        result = step(work, item)
                        self._steps[name] += 1
                    except BaseException as error:
                        self._fail(work, error)
                if sink is None:
                    if work.over and work.writer is not None:
                        work.writer.discard()
                        self._staging.remove_if_empty()
                elif item is _END or not work.over:
                    sink.put((work, result))
            if sink is not None:
                sink.put(_END)

        return threading.Thread(target=loop, name=name, daemon=True)


def _handed_back(unit: Unit) -> HandedBack:
    return HandedBack(f"unit {unit.name} was given back")


def peak_memory_bytes() -> int:
    """Most memory that this process has held so far; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
