"""Which classes a model family has, by the `model_type` of its `config.json`."""

from __future__ import annotations

import os
from pathlib import Path

from models.errors import ModelNotFound, UnknownFamily
from models.roberta.tokenizer import RobertaTokenizerFast
from models.tokenization.fast import PreTrainedTokenizerFast
from models.tokenization.files import read_json

TOKENIZERS: dict[str, type[PreTrainedTokenizerFast]] = {
    "roberta": RobertaTokenizerFast,
    "xlm-roberta": PreTrainedTokenizerFast,
    "camembert": PreTrainedTokenizerFast,
}


def load_tokenizer(path: str | os.PathLike[str], revision: str | None = None) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a model folder or Hub id, of the class that fits the model's family.

    Raises:
        ModelNotFound: no `config.json` there.
        UnknownFamily: its `model_type` is not ours.
        TokenizerError: tokenizer files are missing or unreadable.
    """
    config_file = Path(path) / "config.json"
    if not config_file.exists():
        raise ModelNotFound(f"expected a model folder, found no {config_file}")
    family = read_json(config_file).get("model_type")
    if family not in TOKENIZERS:
        raise UnknownFamily(f"{config_file}: model_type {family!r} is not one of {', '.join(sorted(TOKENIZERS))}")
    return TOKENIZERS[family].from_pretrained(path, revision=revision)
