"""What the reference makes of the demo's Chinese models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def predict(architecture: str, folder: str, texts: Sequence[str]) -> tuple[dict[str, list[list[int]]], list[Any]]:
    """The ids that the tokenizer of `folder` gives, and the logits that its model gives for them."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, architecture).from_pretrained(folder).eval()
    batch = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**batch).logits
    return {name: ids.tolist() for name, ids in batch.items()}, logits.tolist()
