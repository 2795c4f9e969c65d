"""Model families in native torch, and their tokenizers."""

from models.registry import load_config, load_model, load_tokenizer

__all__ = ["load_config", "load_model", "load_tokenizer"]
