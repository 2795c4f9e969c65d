"""RoCBert."""

from models.rocbert.config import RoCBertConfig
from models.rocbert.modeling import (
    RoCBertForCausalLM,
    RoCBertForMaskedLM,
    RoCBertForMultipleChoice,
    RoCBertForQuestionAnswering,
    RoCBertForSequenceClassification,
    RoCBertForTokenClassification,
    RoCBertModel,
)
from models.rocbert.pretraining import RoCBertForPreTraining
from models.rocbert.tokenizer import RoCBertTokenizer

__all__ = [
    "RoCBertConfig",
    "RoCBertForCausalLM",
    "RoCBertForMaskedLM",
    "RoCBertForMultipleChoice",
    "RoCBertForPreTraining",
    "RoCBertForQuestionAnswering",
    "RoCBertForSequenceClassification",
    "RoCBertForTokenClassification",
    "RoCBertModel",
    "RoCBertTokenizer",
]
