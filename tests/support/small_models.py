"""Small models of every family with weights that matter, a packed batch for them, and their last states."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from models.batch import TokenBatch
from models.bert import BertConfig, BertModel
from models.encoder import EncoderModel
from models.roberta import RobertaConfig, RobertaModel
from models.rocbert import RoCBertConfig, RoCBertModel
from models.roformer import RoFormerConfig, RoFormerModel

TOLERANCE = 1e-5
LEAST_COSINE = 0.9999  # of a token's last hidden state in bfloat16 and in float32
LENGTHS = [40, 33, 33, 33, 17, 8, 8, 2, 1]
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 50,
}
MODELS: dict[str, tuple[Any, Any]] = {
    "roberta": (RobertaModel, RobertaConfig(**SIZES)),
    "roberta-decoder": (RobertaModel, RobertaConfig(**SIZES, is_decoder=True)),
    "roberta-relu": (RobertaModel, RobertaConfig(**SIZES, hidden_act="relu")),
    "roberta-gelu_new": (RobertaModel, RobertaConfig(**SIZES, hidden_act="gelu_new")),
    "bert": (BertModel, BertConfig(**SIZES)),
    "roformer": (RoFormerModel, RoFormerConfig(**SIZES)),
    "roformer-rotary-values": (RoFormerModel, RoFormerConfig(**SIZES, rotary_value=True)),
    "rocbert": (
        RoCBertModel,
        RoCBertConfig(**SIZES, pronunciation_vocab_size=20, shape_vocab_size=20, shape_embed_dim=8,
                      pronunciation_embed_dim=8),
    ),
}  # fmt: skip

each_model = pytest.mark.parametrize("name", MODELS)


def random_model(name: str, *, num_heads: int = 4) -> EncoderModel:
    """With weights large enough that attention and the activation matter, and biases that are not zero."""
    model_class, config = MODELS[name]
    torch.manual_seed(0)
    config = copy.deepcopy(config)
    config.num_attention_heads = num_heads
    model: EncoderModel = model_class(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.startswith("encoder.layer") and "LayerNorm" not in key:
                parameter.normal_(0.0, 0.1)
    return model


def random_batch() -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    return TokenBatch.from_sequences(
        [torch.randint(5, 64, (length,), generator=generator).tolist() for length in LENGTHS]
    )


@torch.inference_mode()
def states(model: EncoderModel, batch: TokenBatch) -> torch.Tensor:
    found = model.forward_packed(batch).last_hidden_state
    assert found is not None
    return found.float()
