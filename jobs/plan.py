"""What a run would do: the input listed and planned, and nothing written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobs.spec import JobSpec
from models import load_config
from pipeline.changes import changes
from pipeline.cutting import parent
from pipeline.loading import ModelFiles
from pipeline.planner import BadFile, input_schema, list_files, plan_units
from pipeline.resume import Progress, all_units
from pipeline.sizing import unit_bytes
from pipeline.spool import Listing, spooled
from pipeline.storage import Storage
from pipeline.units import Unit

FIRST_UNITS = 10
FIRST_BAD_FILES = 10
BYTES_A_TOKEN = 4  # of English text; fewer in most other languages


@dataclass(slots=True, kw_only=True)
class Plan:
    """Totals, and the first units and bad files."""

    num_files: int = 0
    file_bytes: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    num_files_before: int = 0  # planned by earlier runs
    num_units_before: int = 0
    num_done: int = 0  # units committed or given up by earlier runs
    num_units: int = 0  # new ones
    num_rows: int | None = 0  # of the new units, as everything from here on; None where some format does not tell
    text_bytes: int = 0
    first_units: list[Unit] = field(default_factory=list)
    num_bad_files: int = 0
    num_gone_files: int = 0  # planned by earlier runs, no longer there; their rows stay
    num_pruned_files: int = 0  # likewise, and a run would remove their rows
    bad_files: list[str] = field(default_factory=list)  # the reasons of the first ones, which name them

    @property
    def num_tokens(self) -> float:
        """A guess."""
        return self.text_bytes / BYTES_A_TOKEN


def make_plan(spec: JobSpec) -> Plan:
    """Lists the input and plans what earlier runs have not.

    Raises:
        ShardmillError: as a run would.
    """
    plan = Plan()
    output = Storage.open(spec.output.url, spec.output.storage)
    with spooled(list_files(spec.input)) as files:
        input_schema(files, spec.input, spec.output.keep)
        progress = Progress.of(output)
        changed = changes(output, progress, files, prune=spec.output.prune)
        plan.num_gone_files, plan.num_pruned_files = changed.num_gone, changed.num_pruned
        _count_files(plan, files, changed.num_to_plan)
        _count_units(plan, output, progress, set(changed.superseded))
        size = spec.input.unit_bytes or _unit_bytes(spec, files.size_bytes)
        for planned in plan_units(changed.to_plan, spec.input, unit_bytes=size):
            _count(plan, planned)
    return plan


def _unit_bytes(spec: JobSpec, input_bytes: int) -> int:
    """What a run chooses: by the size of the model."""
    model = ModelFiles.of(spec.model)
    config = load_config(model.path, revision=model.revision)
    return unit_bytes(config, spec.workers, input_bytes)


def _count_files(plan: Plan, files: Listing, num_to_plan: int) -> None:
    plan.num_files = len(files)
    plan.num_files_before = len(files) - num_to_plan
    plan.file_bytes = files.size_bytes
    plan.formats = Counter(file.format for file in files)


def _count(plan: Plan, planned: Unit | BadFile) -> None:
    if isinstance(planned, BadFile):
        plan.num_bad_files += 1
        if plan.num_bad_files <= FIRST_BAD_FILES:
            plan.bad_files.append(planned.reason)
        return
    plan.num_units += 1
    plan.text_bytes += planned.size_bytes
    rows = planned.num_rows
    plan.num_rows = None if plan.num_rows is None or rows is None else plan.num_rows + rows
    if plan.num_units <= FIRST_UNITS:
        plan.first_units.append(planned)


def _count_units(plan: Plan, output: Storage, progress: Progress, superseded: set[str]) -> None:
    for unit in all_units(output, progress):
        if parent(unit.name) not in superseded:
            plan.num_units_before += 1
            plan.num_done += progress.is_over(unit)
