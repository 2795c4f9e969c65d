"""BERT."""

from models.bert.config import BertConfig
from models.bert.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
)
from models.bert.pretraining import BertForNextSentencePrediction, BertForPreTraining
from models.bert.tokenizer import BertTokenizer, BertTokenizerFast

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertLMHeadModel",
    "BertModel",
    "BertTokenizer",
    "BertTokenizerFast",
]
