"""RoBERTa's configuration; XLM-RoBERTa and CamemBERT are the same encoder with other vocabularies."""

from __future__ import annotations

from typing import ClassVar

from models.config import EncoderConfig


class RobertaConfig(EncoderConfig):
    """What differs from other encoders: the vocabulary, the padding id, and with it where positions begin."""

    architectures_by_type: ClassVar[dict[str, str]] = {
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
        "camembert": "Camembert",
    }

    model_type: str = "roberta"
    vocab_size: int = 50265
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | None = 2
    position_embedding_type: str = "absolute"  # or relative_key, relative_key_query
    classifier_dropout: float | None = None  # None: hidden_dropout_prob

    @property
    def padding_position(self) -> int:
        """Position of padding tokens; the first token of a sequence has the next one."""
        return 0 if self.pad_token_id is None else self.pad_token_id

    @property
    def max_tokens(self) -> int:
        return self.max_position_embeddings - self.padding_position - 1
