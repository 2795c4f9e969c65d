"""The kinds of job. A new kind is one new file, and its class named in the two places here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobs.classify import ClassifyTask
from jobs.embed import EmbedTask
from jobs.ner import NerTask
from jobs.task import TaskOptions

KINDS: dict[str, type[TaskOptions]] = {
    "classify": ClassifyTask,
    "embed": EmbedTask,
    "ner": NerTask,
}

AnyTask = Annotated[ClassifyTask | EmbedTask | NerTask, Field(discriminator="type")]
