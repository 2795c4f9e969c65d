"""The kinds of job, told apart by their `type`. A new kind is one new file, and its class named here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobs.classify import ClassifyTask
from jobs.embed import EmbedTask
from jobs.ner import NerTask

AnyTask = Annotated[ClassifyTask | EmbedTask | NerTask, Field(discriminator="type")]
