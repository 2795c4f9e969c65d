"""RoCBert's configuration."""

from __future__ import annotations

from typing import ClassVar

from models.bert.config import BertConfig


class RoCBertConfig(BertConfig):
    """What differs from BERT: what characters look and sound like."""

    architectures_by_type: ClassVar[dict[str, str]] = {"roc_bert": "RoCBert"}

    model_type: str = "roc_bert"
    enable_pronunciation: bool = True
    enable_shape: bool = True
    pronunciation_embed_dim: int = 768
    pronunciation_vocab_size: int = 910
    shape_embed_dim: int = 512
    shape_vocab_size: int = 24858
    concat_input: bool = True  # word, shape and pronunciation are concatenated and projected; False: averaged
