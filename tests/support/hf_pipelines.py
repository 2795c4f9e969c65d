"""Tiny random models and what transformers' own pipelines make of text with them. Runs in the reference process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

NER_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "PER", "X-PER")

TRAINING_TEXT = (
    "Ada Lovelace met Charles Babbage in London, and they wrote the first program together.",
    "The committee (all of them) said: don't stop; it's 3,000 kilometres to Sao Paulo & back!",
    "Wolfgang Amadeus Mozart was born in Salzburg; his father Leopold taught him the violin.",
    "Über den Wolken muss die Freiheit wohl grenzenlos sein. Ça va? Naïve cafés, Łódź.",
    "東京は日本の首都です。 Москва 😀🚀",
)


def build_model(folder: Path, architecture: str, *, seed: int = 0, num_positions: int = 50, **fields: Any) -> None:
    """Saves a random RoBERTa; its weights are large, so that its answers differ from token to token."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.RobertaConfig(
        vocab_size=420,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=num_positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.6,
        **fields,
    )
    getattr(transformers, architecture)(config).save_pretrained(folder)


def build_byte_level_tokenizer(folder: Path, *, max_length: int = 48) -> None:
    """Saves a byte-level BPE of a few merges."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TRAINING_TEXT * 3, vocab_size=400, special_tokens=specials, show_progress=False)
    vocab, merges = trained.save_model(str(folder))
    RobertaTokenizerFast(vocab, merges, model_max_length=max_length).save_pretrained(folder)


def build_wordpiece_tokenizer(folder: Path, *, max_length: int = 48) -> None:
    """Saves a WordPiece tokenizer that lowers, strips accents and has unknown characters; with RoBERTa's specials."""
    from tokenizers import BertWordPieceTokenizer, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = BertWordPieceTokenizer(
        unk_token="<unk>", sep_token="</s>", cls_token="<s>", pad_token="<pad>", mask_token="<mask>"
    )
    trained.train_from_iterator(
        TRAINING_TEXT[:4] * 3,
        vocab_size=160,
        min_frequency=1,
        limit_alphabet=50,
        special_tokens=specials,
        show_progress=False,
    )
    backend = trained._tokenizer
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=max_length,
    ).save_pretrained(folder)


def token_classification(folder: Path, texts: Sequence[str], **options: Any) -> list[list[dict[str, Any]]]:
    """What the token classification pipeline says of each text, one by one."""
    import warnings

    import transformers

    warnings.simplefilter("ignore")
    pipeline = _pipeline(transformers, "token-classification", folder)
    return [[_plain(entity) for entity in pipeline(text, **options)] for text in texts]


def text_classification(
    folder: Path, texts: Sequence[str | tuple[str, str]], **options: Any
) -> list[list[dict[str, Any]]]:
    """What the text classification pipeline says of each text or pair, one by one; a list of labels each."""
    import transformers

    pipeline = _pipeline(transformers, "text-classification", folder)
    results = []
    for text in texts:
        result = pipeline({"text": text[0], "text_pair": text[1]} if isinstance(text, tuple) else text, **options)
        results.append([_plain(label) for label in (result if isinstance(result, list) else [result])])
    return results


def hidden_states(folder: Path, texts: Sequence[str], *, max_length: int | None = None) -> list[tuple[Any, Any]]:
    """The last hidden state [S, H] and the pooler's output [H], as numpy arrays.

    Of each text; or, with `max_length`, of each window of so many tokens, one after the other.
    """
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    states = []
    for text in texts:
        windows = tokenizer(
            text, truncation=max_length is not None, max_length=max_length, return_overflowing_tokens=True
        )
        for window in windows["input_ids"]:
            with torch.no_grad():
                output = model(torch.tensor([window]))
            states.append((output.last_hidden_state[0].numpy(), output.pooler_output[0].numpy()))
    return states


def _pipeline(transformers: Any, task: str, folder: Path) -> Any:
    # By class: the folder may hold a tokenizer that is not the usual one of the model's family.
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return transformers.pipeline(task, model=str(folder), tokenizer=tokenizer, device="cpu")


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str) else float(value) for key, value in result.items()}
