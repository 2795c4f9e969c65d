"""A run from end to end: claim the output, list the input, plan what is new, and let a driver do what is left."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import models
from pipeline import output as folder
from pipeline.changes import Changes, changes, unreadable_before
from pipeline.driver import Driver
from pipeline.errors import CommitConflict, OutputConflict
from pipeline.events import OnEvent, RunSummary
from pipeline.lease import Lease
from pipeline.leftovers import remove_leftovers
from pipeline.loading import ModelFiles, ReplicaRecipe
from pipeline.options import InputOptions, LimitOptions, ModelOptions, OutputOptions, WorkerOptions
from pipeline.output import Quarantined
from pipeline.planner import BadFile, input_schema, list_files, plan_units
from pipeline.plans import num_plans, write_plan
from pipeline.pool import RayPool
from pipeline.resume import Progress
from pipeline.sizing import unit_bytes
from pipeline.spool import spooled
from pipeline.storage import Storage
from pipeline.task import Task
from pipeline.units import Unit
from pipeline.workers import Pool

PoolFactory = Callable[[ReplicaRecipe, WorkerOptions], Pool]


def run(
    *,
    name: str,
    source: InputOptions,
    output: OutputOptions,
    model: ModelOptions,
    task: Task,
    workers: WorkerOptions,
    limits: LimitOptions,
    job: Mapping[str, Any],
    on_event: OnEvent | None = None,
    make_pool: PoolFactory = RayPool,
    spec: str = "",
    retry: bool = False,
) -> RunSummary:
    """Does what is left of a job: all of it, the rest of it, or nothing.

    Args:
        job: what identifies the job besides the model's content, as JSON values; see `pipeline.output.claim`.
        on_event: told of everything that happens, on this thread.
        spec: the whole job as text, without secrets; kept in the output folder for a later `retry`.
        retry: do what is in quarantine, and nothing else.

    Returns:
        How it ended; `exit_code` is 0, or 3 if more failed than `limits` allows. After Ctrl-C the state is
        "interrupted" and the exit code 130.

    Raises:
        ShardmillError: it could not begin, or could not go on; its class carries the exit code.
        ModelError: the model cannot be loaded.
    """
    model_files = ModelFiles.of(model)
    config = models.load_config(model_files.path, revision=model_files.revision)
    tokenizer = models.load_tokenizer(model_files.path, revision=model_files.revision)
    bound = task.bind(config, tokenizer, model_files.folder)  # here too, to fail early and to know the columns
    with spooled(list_files(source)) as files:
        schema = input_schema(files, source, output.keep)
        storage = Storage.open(output.url, output.storage)
        identity = {
            "name": name,
            "input": {"url": list(source.url), "format": source.format},
            **job,
            "model_fingerprint": model_files.fingerprint(),
            "fields": {field.name: str(field.type) for field in bound.fields},
        }
        if not output.overwrite:
            folder.claim(storage, identity)
        size = source.unit_bytes or unit_bytes(config, workers, files.size_bytes)
        # Sorts by the time at which it began.
        run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ-") + uuid.uuid4().hex[:6]
        recipe = ReplicaRecipe(
            model=model, task=task, workers=workers, source=source, input_schema=schema, options=output
        )
        with Lease(storage, run_id) as lease:
            if output.overwrite:
                folder.claim(storage, identity, overwrite=True)
            remove_leftovers(storage)
            if spec:
                storage.write_bytes(folder.SPEC, spec.encode())
            number = num_plans(storage)  # asked first: a plan that somebody writes meanwhile is then in the way of ours
            progress = Progress.of(storage)
            changed = (
                unreadable_before(storage, progress, files)
                if retry
                else changes(storage, progress, files, prune=output.prune)
            )
            progress = _plan(storage, progress, changed, source, size, number)
            current = Driver(run_id, storage, lease, workers, limits, on_event or (lambda event: None))
            return current.to_its_end(
                lambda: make_pool(recipe, workers), changed=changed, progress=progress, retry=retry
            )


def _plan(
    storage: Storage, progress: Progress, changed: Changes, source: InputOptions, size: int, number: int
) -> Progress:
    """Plans what is to be planned, puts out of force what is outdated; files that cannot be read go to quarantine.

    Returns:
        The progress as it is then.
    """
    bad = _write_plan(storage, changed, source, size, number) if changed.num_to_plan or changed.superseded else []
    records = [Quarantined.of_file(file.file, reason=file.reason) for file in bad]
    for record in records:
        folder.write_quarantined(storage, record)
    for name in set(changed.settled) - {record.name for record in records}:
        folder.remove_quarantined(storage, name)
    is_as_before = not (changed.num_to_plan or changed.superseded or changed.settled)
    return progress if is_as_before else Progress.of(storage, before=progress)


def _write_plan(storage: Storage, changed: Changes, source: InputOptions, size: int, number: int) -> list[BadFile]:
    bad: list[BadFile] = []
    job = folder.identity(storage)

    def units() -> Iterator[Unit]:
        for planned in plan_units(changed.to_plan, source, unit_bytes=size, plan_number=number, job=job):
            if isinstance(planned, Unit):
                yield planned
            else:
                bad.append(planned)

    storage.remove(folder.SUCCESS)  # there is more to do, or parts are about to go: not whole until this run ends
    try:
        write_plan(storage, number, units(), supersedes=changed.superseded)
    except CommitConflict:
        raise OutputConflict(
            f"another driver has just planned work for {storage.url}. Run the job again when that run has ended."
        ) from None
    return bad
