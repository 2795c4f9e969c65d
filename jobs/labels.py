"""The names of a model's labels."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.errors import SpecError

logger = logging.getLogger(__name__)


def label_names(config: Any) -> tuple[str, ...]:
    """The names in `config.id2label`, by label id.

    Raises:
        SpecError: there are no labels, or some have no name.
    """
    names = config.id2label
    missing = sorted(set(range(max(1, config.num_labels))) - set(names))
    if missing:
        raise SpecError(
            f"model: expected names for {config.num_labels} labels in its config.json (id2label), found none for "
            f"{', '.join(map(str, missing[:10]))}"
        )
    ordered = tuple(str(names[label]) for label in range(config.num_labels))
    if len(ordered) > 1 and ordered == tuple(f"LABEL_{label}" for label in range(len(ordered))):
        logger.warning("the model's labels have no names: the output says LABEL_0 to LABEL_%d", len(ordered) - 1)
    return ordered
