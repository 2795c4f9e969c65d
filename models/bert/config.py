"""BERT's configuration."""

from __future__ import annotations

from typing import ClassVar

from models.config import EncoderConfig


class BertConfig(EncoderConfig):
    """The encoder that the other families vary; the defaults are those of all encoders."""

    architectures_by_type: ClassVar[dict[str, str]] = {"bert": "Bert"}

    model_type: str = "bert"
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"  # or relative_key, relative_key_query
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
