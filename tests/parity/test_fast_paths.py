"""A model that was prepared for inference gives what it gave before, in every family and dtype."""

from __future__ import annotations

import copy

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
from tests.support.small_models import (
    LEAST_COSINE,
    LENGTHS,
    SIZES,
    TOLERANCE,
    each_model,
    random_batch,
    random_model,
    states,
)


def prepared(model: EncoderModel, dtype: torch.dtype = torch.float32) -> EncoderModel:
    fast = copy.deepcopy(model).to(dtype)
    optimize_for_inference(fast)
    if not isinstance(fast.encoder, TiledStack):
        assert all(isinstance(block, FusedBlock) for block in fast.encoder.layer)
    return fast


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
