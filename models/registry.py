"""Which classes a model family has, by the `model_type` of its `config.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

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
from models.bert.tokenizer import BertTokenizerFast
from models.config import CONFIG_NAME, EncoderConfig, parse_dtype, read_config
from models.errors import ConfigError, UnknownFamily
from models.hub import Source
from models.modeling import PreTrainedModel
from models.roberta.config import RobertaConfig
from models.roberta.modeling import (
    RobertaForCausalLM,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from models.roberta.tokenizer import CamembertTokenizerFast, RobertaTokenizerFast, XLMRobertaTokenizerFast
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
from models.roformer.config import RoFormerConfig
from models.roformer.modeling import (
    RoFormerForCausalLM,
    RoFormerForMaskedLM,
    RoFormerForMultipleChoice,
    RoFormerForQuestionAnswering,
    RoFormerForSequenceClassification,
    RoFormerForTokenClassification,
    RoFormerModel,
)
from models.roformer.tokenizer import RoFormerTokenizerFast
from models.tokenization.files import CONFIG_FILE, read_json
from models.tokenization.flat_tokenizer import FlatTokenizer
from models.wording import suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family's classes; models by task."""

    config: type[EncoderConfig]
    tokenizer: type[FlatTokenizer]
    models: Mapping[str, type[PreTrainedModel]]


ROBERTA_MODELS: dict[str, type[PreTrainedModel]] = {
    "encoder": RobertaModel,
    "causal-lm": RobertaForCausalLM,
    "masked-lm": RobertaForMaskedLM,
    "sequence-classification": RobertaForSequenceClassification,
    "multiple-choice": RobertaForMultipleChoice,
    "token-classification": RobertaForTokenClassification,
    "question-answering": RobertaForQuestionAnswering,
}

ROFORMER_MODELS: dict[str, type[PreTrainedModel]] = {
    "encoder": RoFormerModel,
    "causal-lm": RoFormerForCausalLM,
    "masked-lm": RoFormerForMaskedLM,
    "sequence-classification": RoFormerForSequenceClassification,
    "multiple-choice": RoFormerForMultipleChoice,
    "token-classification": RoFormerForTokenClassification,
    "question-answering": RoFormerForQuestionAnswering,
}

ROCBERT_MODELS: dict[str, type[PreTrainedModel]] = {
    "encoder": RoCBertModel,
    "pretraining": RoCBertForPreTraining,
    "causal-lm": RoCBertForCausalLM,
    "masked-lm": RoCBertForMaskedLM,
    "sequence-classification": RoCBertForSequenceClassification,
    "multiple-choice": RoCBertForMultipleChoice,
    "token-classification": RoCBertForTokenClassification,
    "question-answering": RoCBertForQuestionAnswering,
}

BERT_MODELS: dict[str, type[PreTrainedModel]] = {
    "encoder": BertModel,
    "pretraining": BertForPreTraining,
    "next-sentence-prediction": BertForNextSentencePrediction,
    "causal-lm": BertLMHeadModel,
    "masked-lm": BertForMaskedLM,
    "sequence-classification": BertForSequenceClassification,
    "multiple-choice": BertForMultipleChoice,
    "token-classification": BertForTokenClassification,
    "question-answering": BertForQuestionAnswering,
}

FAMILIES: dict[str, Family] = {
    "roberta": Family(config=RobertaConfig, tokenizer=RobertaTokenizerFast, models=ROBERTA_MODELS),
    "xlm-roberta": Family(config=RobertaConfig, tokenizer=XLMRobertaTokenizerFast, models=ROBERTA_MODELS),
    "camembert": Family(config=RobertaConfig, tokenizer=CamembertTokenizerFast, models=ROBERTA_MODELS),
    "roformer": Family(config=RoFormerConfig, tokenizer=RoFormerTokenizerFast, models=ROFORMER_MODELS),
    "roc_bert": Family(config=RoCBertConfig, tokenizer=RoCBertTokenizer, models=ROCBERT_MODELS),
    "bert": Family(config=BertConfig, tokenizer=BertTokenizerFast, models=BERT_MODELS),
}

TASK_OF_ARCHITECTURE: dict[str, str] = {  # by the end of its name, the first that fits
    "LMHeadModel": "causal-lm",
    "Model": "encoder",
    "ForPreTraining": "pretraining",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForCausalLM": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "sequence-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}


def load_config(path: str | os.PathLike[str], revision: str | None = None, token: str | None = None) -> EncoderConfig:
    """Reads the config of a model folder or Hub id, as the class of its family.

    Raises:
        ModelNotFound: no `config.json` there.
        UnknownFamily: its `model_type` is not ours.
        ConfigError: a field is wrong.
    """
    source = Source(name=os.fspath(path), revision=revision, token=token)
    fields = read_config(source)
    return _family(fields.get("model_type"), source).config.from_dict(fields)


def load_model(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    token: str | None = None,
    from_tf: bool = False,
    from_flax: bool = False,
    **config_overrides: Any,
) -> PreTrainedModel:
    """Loads the model of a folder or Hub id, in eval mode, as the class that fits its family and the task.

    Args:
        task: A key of the family's `models`; None: what the config's `architectures` names, else the encoder.
            "encoder" has a pooler only if the checkpoint has one.
        dtype: "auto" is bfloat16 on a CUDA device that computes in it and float32 elsewhere, whatever the file has.
        from_tf: Read what TensorFlow wrote, even if there are other weights; without them it is read anyway.
        from_flax: The same for Flax.
        **config_overrides: Fields of the config, such as `num_labels`.

    Raises:
        ModelNotFound: no such folder or repository, or it lacks `config.json` or weights.
        UnknownFamily: its `model_type` is not ours.
        ConfigError: a field is wrong, or the family has no model for the task.
        CheckpointError: the weights cannot be read or do not fit.
    """
    config = load_config(path, revision, token)
    config.update(config_overrides)
    models = FAMILIES[config.model_type].models
    if task is None:
        task = _task_of(config)
    if task not in models:
        raise ConfigError(
            f"task: {config.model_type} has {', '.join(sorted(models))}; found {task!r}{suggest(task, models)}"
        )
    if dtype == "auto":
        dtype = torch.bfloat16 if _computes_in_bfloat16(torch.device(device)) else torch.float32
    pooler: dict[str, Any] = {}
    if task == "encoder" and "add_pooling_layer" in models[task].construction_arguments:
        pooler["add_pooling_layer"] = None
    model = models[task].from_pretrained(
        path,
        config=config,
        dtype=parse_dtype(dtype),
        revision=revision,
        token=token,
        from_tf=from_tf,
        from_flax=from_flax,
        **pooler,
    )
    return model.to(device)


def load_tokenizer(
    path: str | os.PathLike[str], revision: str | None = None, token: str | None = None
) -> FlatTokenizer:
    """Loads the tokenizer of a model folder or Hub id.

    Its class is the one that the folder's tokenizer files name, as there are BERT models with XLM-RoBERTa's tokenizer;
    if they name none of ours, the one that fits the model's family.

    Raises:
        ModelNotFound: no `config.json` there.
        UnknownFamily: its `model_type` is not ours.
        TokenizerError: tokenizer files are missing or unreadable.
    """
    source = Source(name=os.fspath(path), revision=revision, token=token)
    family = _family(read_config(source).get("model_type"), source)
    config = source.find(CONFIG_FILE)
    named = None if config is None else read_json(config).get("tokenizer_class")
    by_name = {one.tokenizer.__name__.removesuffix("Fast"): one.tokenizer for one in FAMILIES.values()}
    tokenizer = by_name.get(str(named).removesuffix("Fast"), family.tokenizer)
    return tokenizer.from_pretrained(path, revision=revision, token=token)


def _family(model_type: object, source: Source) -> Family:
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnknownFamily(
            f"{source.name}/{CONFIG_NAME}: model_type: expected one of {', '.join(sorted(FAMILIES))}; "
            f"found {model_type!r}"
        )
    return FAMILIES[model_type]


def _task_of(config: EncoderConfig) -> str:
    for architecture in config.architectures or ():
        for ending, task in TASK_OF_ARCHITECTURE.items():
            if architecture.endswith(ending):
                return task
    return "encoder"


def _computes_in_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
