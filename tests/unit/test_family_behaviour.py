"""What every family's models do alike, beside what they compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.batch import TokenBatch
from models.bert import BertConfig, BertForMaskedLM
from models.modeling import PreTrainedModel
from models.roberta import RobertaConfig, RobertaForMaskedLM
from models.rocbert import RoCBertConfig, RoCBertForMaskedLM
from models.roformer import RoFormerConfig, RoFormerForMaskedLM

SIZES: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SHAPES = {"shape_vocab_size": 7, "shape_embed_dim": 6, "pronunciation_vocab_size": 5, "pronunciation_embed_dim": 4}
ROWS = [[0, 5, 6, 2], [0, 7, 8, 2], [0, 3, 2]]


def make(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    makers: dict[str, Any] = {
        "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES)),
        "bert": lambda: BertForMaskedLM(BertConfig(**SIZES)),
        "roformer": lambda: RoFormerForMaskedLM(RoFormerConfig(**SIZES, embedding_size=12, rotary_value=True)),
        "rocbert": lambda: RoCBertForMaskedLM(RoCBertConfig(**SIZES, **SHAPES)),
    }
    model: PreTrainedModel = makers[family]()
    return model


def batch_for(family: str) -> TokenBatch:
    ids = torch.tensor([token for row in ROWS for token in row])
    extras = {"input_shape_ids": ids % 7, "input_pronunciation_ids": ids % 5} if family == "rocbert" else {}
    return TokenBatch.from_flat(ids, [len(row) for row in ROWS], token_type_ids=ids * 0, extras=extras)


families = pytest.mark.parametrize("family", ["roberta", "bert", "roformer", "rocbert"])


@families
def test_the_packed_forward_pass_is_one_graph(family: str) -> None:
    model = make(family).eval()
    batch = batch_for(family)
    torch._dynamo.reset()
    compiled = torch.compile(model.forward_packed, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch).logits, model.forward_packed(batch).logits)


@families
def test_a_vocabulary_grows_with_both_of_its_ends(family: str) -> None:
    model = make(family).eval()
    ids = torch.tensor(ROWS[:2])
    before = model(ids).logits
    embeddings = model.resize_token_embeddings(20)
    after = model(ids).logits
    assert after.shape == (2, 4, 20)
    torch.testing.assert_close(after[..., :13], before)
    assert model.get_output_embeddings().weight is embeddings.weight


@families
def test_recomputed_blocks_change_no_gradient(family: str) -> None:
    model = make(family).train()
    ids = torch.tensor(ROWS[:2])
    model(ids, labels=ids).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name])


@families
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(family: str, dtype: torch.dtype) -> None:
    model = make(family).eval()
    batch = batch_for(family)
    with torch.no_grad():
        expected = model.forward_packed(batch).logits
        found = model.to(dtype).forward_packed(batch).logits
    assert found.dtype == dtype
    # 8 bits of mantissa through two layers with large weights.
    assert (found.float() - expected).abs().max() < 0.15 * expected.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_equals_alone_on_cuda(family: str, dtype: torch.dtype) -> None:
    model = make(family).eval().to("cuda", dtype)
    batch = batch_for(family)
    on_device = TokenBatch.from_flat(
        batch.input_ids, list(batch.seqlens), token_type_ids=batch.token_type_ids, extras=batch.extras, device="cuda"
    )
    with torch.no_grad():
        packed = model.forward_packed(on_device).logits.split(batch.seqlens)
        for row, found in enumerate(packed):
            inputs = {name: ids.split(batch.seqlens)[row][None] for name, ids in on_device.extras.items()}
            alone = model(on_device.input_ids.split(batch.seqlens)[row][None], **inputs).logits[0]
            assert (found - alone).abs().max() <= (1e-4 if dtype == torch.float32 else 0.2)
