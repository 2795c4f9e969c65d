"""What every kind of job has in common: the options that decide how long a token sequence may be."""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline.errors import SpecError
from pipeline.options import Count, Options


class TaskOptions(Options):
    """The part of `task:` that all kinds share. Each kind is a `pipeline.task.Task`."""

    takes_pairs: ClassVar[bool] = True  # whether `input.text_pair` makes sense

    max_length: Count | None = None  # tokens in a sequence, special tokens included; default: what the model can take

    def sequence_length(self, config: Any, tokenizer: Any, *further_limits: int) -> int:
        """Most tokens in one sequence: the smallest of what model, tokenizer, `further_limits` and the user allow.

        Raises:
            SpecError: `max_length` is more than the model can take, or leaves no room for text.
        """
        longest: int = min(config.max_tokens, tokenizer.model_max_length)
        if self.max_length is None:
            return min((longest, *further_limits))
        if self.max_length > longest:
            raise SpecError(f"task.max_length: this model takes at most {longest} tokens, found {self.max_length}")
        shortest = tokenizer.num_special_tokens_to_add(self.takes_pairs) + 1
        if self.max_length < shortest:
            raise SpecError(
                f"task.max_length: expected at least {shortest} (one token of text next to the special ones), "
                f"found {self.max_length}"
            )
        return self.max_length
