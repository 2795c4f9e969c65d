"""A model that was prepared for inference gives what it gave before, in every family and dtype."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from models.batch import TokenBatch
from models.bert import BertConfig, BertModel
from models.encoder import EncoderModel
from models.inference import optimize_for_inference
from models.kernels import encoder_kernel
from models.layers.block import Block
from models.layers.fused_block import FusedBlock
from models.layers.tiled_stack import TiledStack
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


def prepared(model: EncoderModel, dtype: torch.dtype = torch.float32) -> EncoderModel:
    fast = copy.deepcopy(model).to(dtype)
    optimize_for_inference(fast)
    if not isinstance(fast.encoder, TiledStack):
        assert all(isinstance(block, FusedBlock) for block in fast.encoder.layer)
    return fast


@torch.inference_mode()
def states(model: EncoderModel, batch: TokenBatch) -> torch.Tensor:
    found = model.forward_packed(batch).last_hidden_state
    assert found is not None
    return found.float()


@each_model
def test_same_states(name: str) -> None:
    model, batch = random_model(name), random_batch()
    torch.testing.assert_close(states(prepared(model), batch), states(model, batch), atol=TOLERANCE, rtol=0.0)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 kernels")
@each_model
def test_bfloat16_is_close(name: str) -> None:
    model, batch = random_model(name), random_batch()
    fast = prepared(model, torch.bfloat16)
    assert not isinstance(fast.encoder, TiledStack)  # its heads are too small
    assert functional.cosine_similarity(states(model, batch), states(fast, batch)).min() >= LEAST_COSINE


@pytest.mark.skipif(encoder_kernel() is None, reason="this machine has no AMX, or no compiler")
@each_model
def test_matrix_tiles_are_close(name: str) -> None:
    model, batch = random_model(name, num_heads=2), random_batch()
    fast = prepared(model, torch.bfloat16)
    assert isinstance(fast.encoder, TiledStack) == (model.config.hidden_act == "gelu")
    assert functional.cosine_similarity(states(model, batch), states(fast, batch)).min() >= LEAST_COSINE


@each_model
@pytest.mark.parametrize("prepare", [False, True])
def test_first_tokens_alone_are_those_among_all(name: str, prepare: bool) -> None:
    model, batch = random_model(name), random_batch()
    if prepare:
        model = prepared(model)
    with torch.inference_mode():
        found = model.forward_packed(batch, first_tokens=True)
    expected = states(model, batch)[batch.cu_seqlens[:-1].long()]
    torch.testing.assert_close(found.last_hidden_state, expected, atol=TOLERANCE, rtol=0.0)


@each_model
def test_a_row_alone_equals_the_row_among_others(name: str) -> None:
    fast, batch = prepared(random_model(name)), random_batch()
    together = states(fast, batch).split(LENGTHS)
    for ids, expected in zip(batch.input_ids.split(LENGTHS), together, strict=True):
        alone = states(fast, TokenBatch.from_sequences([ids.tolist()]))
        torch.testing.assert_close(alone, expected, atol=TOLERANCE, rtol=0.0)


def test_padded_rows_work_too() -> None:
    model = random_model("roberta")
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
    }
    with torch.inference_mode():
        found, expected = prepared(model)(**inputs), model(**inputs)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=TOLERANCE, rtol=0.0)


def test_what_a_prepared_model_lacks_is_refused_by_name() -> None:
    fast = prepared(random_model("roberta"))
    with pytest.raises(ValueError, match="prepared for inference takes no output_attentions"):
        fast(torch.tensor([[5, 6]]), output_attentions=True)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**SIZES, position_embedding_type="relative_key"),
        BertConfig(**SIZES, is_decoder=True, add_cross_attention=True),
        BertConfig(**SIZES, dtype="float16"),
    ],
    ids=["relative", "cross", "float16"],
)
def test_blocks_with_more_stay_as_they_are(config: BertConfig) -> None:
    model = BertModel(config).eval().to(config.dtype or torch.float32)
    optimize_for_inference(model)
    assert all(type(block) is Block for block in model.encoder.layer)
