"""RoBERTa, and with it XLM-RoBERTa and CamemBERT."""

from models.roberta.config import RobertaConfig
from models.roberta.modeling import RobertaForSequenceClassification, RobertaForTokenClassification, RobertaModel
from models.roberta.tokenizer import RobertaTokenizer, RobertaTokenizerFast

__all__ = [
    "RobertaConfig",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
    "RobertaTokenizer",
    "RobertaTokenizerFast",
]
