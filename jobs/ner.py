"""Named entities: the people, places and whatever else a token classifier knows, with where they are in each text.

Legend: M texts, N token sequences (windows of long texts included), T tokens, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from jobs.labels import label_names
from jobs.spans import (
    Aggregation,
    Mask,
    Spans,
    Tags,
    entities,
    entity_name,
    glued_to_previous,
    merge_overlapping,
    words,
)
from jobs.task import TaskOptions
from models.batch import TokenBatch
from models.tokenization.flat import FlatEncoding
from pipeline.errors import SpecError
from pipeline.task import Decoded, EncodingPlan, Head

ENTITY = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("start", pa.int32()),  # code points of the original text
        pa.field("end", pa.int32()),
        pa.field("text", pa.string()),  # the original text from start to end
    ]
)


class NerTask(TaskOptions):
    """`task: {type: ner}`."""

    takes_pairs: ClassVar[bool] = False

    type: Literal["ner"] = "ner"
    # none: every token. simple: neighbouring tokens of one tag are an entity. first, average, max: the tokens of a word
    # agree on a label before that, the first one's, the best on average, or the most certain one's.
    aggregation: Aggregation = "simple"
    ignore_labels: tuple[str, ...] = (
        "O",
    )  # as they stand in the output: without B- and I-, unless aggregation is none
    stride: Annotated[int, Field(ge=0)] | None = (
        None  # tokens that two windows of a long text share; default: a quarter
    )

    @property
    def head(self) -> Head:
        return "token-classification"

    def bind(self, config: Any, tokenizer: Any, model_path: Path | None) -> BoundNer:
        """See `pipeline.task.Task.bind`."""
        max_length = self.sequence_length(config, tokenizer)
        num_special = tokenizer.num_special_tokens_to_add(False)
        room = max_length - num_special
        stride = min(max_length // 4, room - 1) if self.stride is None else self.stride
        if stride >= room:
            raise SpecError(f"task.stride: expected less than {room} (the tokens of text in a window), found {stride}")
        marks_subwords = bool(tokenizer.continuing_subword_prefix)
        return BoundNer(
            encoding=EncodingPlan(max_length=max_length, stride=stride, offsets=True),
            aggregation=self.aggregation,
            labels=label_names(config),
            ignored=frozenset(self.ignore_labels),
            num_special=num_special,
            token_lengths=tokenizer.token_lengths if marks_subwords else None,
            unk_token_id=tokenizer.unk_token_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundNer:
    """Named entities with a known model."""

    encoding: EncodingPlan
    aggregation: Aggregation
    labels: tuple[str, ...]
    ignored: frozenset[str]
    num_special: int  # special tokens around a text
    token_lengths: npt.NDArray[np.int32] | None  # [V] code points of each token; None where subwords are not marked
    unk_token_id: int | None

    @property
    def fields(self) -> Sequence[pa.Field]:
        return [pa.field("entities", pa.list_(ENTITY))]

    @property
    def per_token(self) -> bool:
        return True

    def forward(self, model: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        """Gives each token's best label and its score, [T] int32 and [T] float32; all scores, [T, L], to average."""
        scores = torch.softmax(model.forward_packed(batch).logits.float(), dim=-1)
        if self.aggregation == "average":
            return (scores,)
        best = scores.max(dim=-1)
        return best.indices.to(torch.int32), best.values

    def decode(
        self, texts: Sequence[str], encoding: FlatEncoding, outputs: tuple[npt.NDArray[np.generic], ...]
    ) -> Decoded:
        """See `pipeline.task.BoundTask.decode`."""
        assert encoding.offsets is not None  # the plan asks for them
        places = np.flatnonzero(self._counted(encoding))
        sequence = np.repeat(np.arange(encoding.num_sequences), encoding.seqlens)[places]
        scores: npt.NDArray[np.float32] | None = None
        if self.aggregation == "average":
            scores = outputs[0][places].astype(np.float32, copy=False)
            label, score = scores.argmax(axis=1), scores.max(axis=1)
        else:
            label, score = outputs[0][places].astype(np.int64), outputs[1][places].astype(np.float32, copy=False)
        start, end = encoding.offsets[places].astype(np.int64).T
        spans = Spans(sequence=sequence, label=label, score=score, start=start, end=end)
        if self.aggregation in ("first", "average", "max"):
            is_subword = self._is_subword(texts, encoding, places, spans)
            spans = words(spans, is_subword, self.aggregation, scores)
        if self.aggregation != "none":
            spans = entities(spans, Tags.of(self.labels))
        names = self._names()
        spans = spans.take(~np.isin(names, list(self.ignored))[spans.label])
        if self.aggregation != "none":
            spans = _settle_windows(spans, encoding)
        return Decoded(columns=[_column(texts, spans, encoding.text_index, names)], errors={})

    def _names(self) -> list[str]:
        """[L] what each label is called in the output."""
        return [label if self.aggregation == "none" else entity_name(label) for label in self.labels]

    def _counted(self, encoding: FlatEncoding) -> Mask:
        """[T] which tokens count: no special ones; and without aggregation each token of a long text once.

        Entities found in two windows compete. Tokens do not: of those that two windows share, the first half is taken
        from the one window and the second half from the other, where each has the more context.
        """
        assert encoding.special is not None
        counted: Mask = ~encoding.special
        if self.aggregation != "none":
            return counted
        follows = np.diff(encoding.text_index, prepend=-1) == 0  # [N] whether the sequence goes on with a text
        is_followed = np.append(follows[1:], False)
        leading = self.num_special // 2  # as in <s> text </s>
        half = self.encoding.stride // 2
        skip_head = np.where(follows, leading + half, 0)
        skip_tail = np.where(is_followed, self.num_special - leading + self.encoding.stride - half, 0)
        place = np.arange(encoding.num_tokens)
        first, stop = encoding.cu_seqlens[:-1] + skip_head, encoding.cu_seqlens[1:] - skip_tail
        seqlens = encoding.seqlens
        counted &= (place >= np.repeat(first, seqlens)) & (place < np.repeat(stop, seqlens))
        return counted

    def _is_subword(
        self, texts: Sequence[str], encoding: FlatEncoding, places: npt.NDArray[np.int64], tokens: Spans
    ) -> Mask:
        """Whether each token goes on with the word before it, as Hugging Face's pipeline tells."""
        ids = encoding.input_ids[places]
        if self.token_lengths is not None:
            # A piece like "##ing" is longer than the text that it stands for. (So is one whose text was normalised.)
            is_subword: Mask = self.token_lengths[ids] != tokens.end - tokens.start
        else:
            is_subword = glued_to_previous(texts, encoding.text_index[tokens.sequence], tokens.start)
        if self.unk_token_id is not None:
            is_subword &= ids != self.unk_token_id
        return is_subword


def _settle_windows(spans: Spans, encoding: FlatEncoding) -> Spans:
    """Lets the entities compete that were found where two windows of one text overlap."""
    text = encoding.text_index[spans.sequence].astype(np.int64)
    contested = (np.bincount(encoding.text_index) > 1)[text]
    if not contested.any():
        return spans
    places = np.flatnonzero(contested)
    kept = places[merge_overlapping(spans.take(places), text[places])]
    kept = np.concatenate([np.flatnonzero(~contested), kept])
    return spans.take(kept[np.argsort(text[kept], kind="stable")])


def _column(texts: Sequence[str], spans: Spans, text_index: npt.NDArray[np.int32], names: Sequence[str]) -> pa.Array:
    """The `entities` of each text; spans are ordered by text."""
    text = text_index[spans.sequence]
    ends = np.cumsum(np.bincount(text, minlength=len(texts)))
    cut = [
        texts[place][start:end]
        for place, start, end in zip(text.tolist(), spans.start.tolist(), spans.end.tolist(), strict=True)
    ]
    members = [
        pa.array(names, pa.string()).take(pa.array(spans.label)),
        pa.array(spans.score),
        pa.array(spans.start.astype(np.int32)),
        pa.array(spans.end.astype(np.int32)),
        pa.array(cut, pa.string()),
    ]
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(members, fields=list(ENTITY)))
