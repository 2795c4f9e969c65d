"""Model families in native torch, and their tokenizers."""

from models.registry import load_tokenizer

__all__ = ["load_tokenizer"]
