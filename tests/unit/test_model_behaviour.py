"""What forward passes do at their edges: arguments that contradict, masks, caches, losses, memory savers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from models.batch import TokenBatch
from models.cache import KeyValueCache
from models.layers.layout import PackedLayout
from models.roberta import (
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)

IDS = torch.tensor([[0, 5, 6, 7, 8, 2], [0, 9, 4, 3, 5, 2]])


def config(**fields: Any) -> RobertaConfig:
    tiny = {
        "vocab_size": 13,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 12,
        "initializer_range": 0.3,
    }
    return RobertaConfig(**tiny | fields)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_outputs_are_read_by_attribute_key_and_index() -> None:
    output = RobertaForTokenClassification(config()).eval()(IDS, output_hidden_states=True)
    assert output.logits is output["logits"] is output[0]
    assert output[:2] == (output.logits, output.hidden_states)
    assert list(output) == ["logits", "hidden_states"]
    assert "loss" not in output
    assert output.loss is None
    assert output.get("loss") is None
    assert {**output}.keys() == {"logits", "hidden_states"}
    with pytest.raises(KeyError):
        output["loss"]


def test_config_sets_what_is_returned() -> None:
    model = RobertaForTokenClassification(config(output_hidden_states=True, return_dict=False)).eval()
    logits, states = model(IDS)
    assert logits.shape == (2, 6, 2)
    assert len(states) == 3
    assert list(model(IDS, output_hidden_states=False, return_dict=True)) == ["logits"]


@pytest.mark.parametrize("inputs", [{}, {"input_ids": IDS, "inputs_embeds": torch.zeros(2, 6, 16)}])
@pytest.mark.parametrize("model_class", [RobertaModel, RobertaForMaskedLM, RobertaForMultipleChoice])
def test_either_ids_or_embeddings(model_class: type[RobertaModel], inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected either input_ids or inputs_embeds"):
        model_class(config())(**inputs)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="input_shape_ids"):
        RobertaForTokenClassification(config())(IDS, input_shape_ids=IDS)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 6), (2, 1, 6, 5), (6,)], ids=str)
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"attention mask: expected \(batch, 6\), .*; found"):
        RobertaModel(config())(IDS, attention_mask=torch.ones(shape))


def test_masks_of_four_dimensions_say_the_same_as_booleans_integers_and_biases() -> None:
    model = RobertaModel(config()).eval()
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    expected = model(IDS, attention_mask=mask[:, 0]).last_hidden_state
    bias = torch.zeros(2, 1, 6, 6).masked_fill(~mask, -torch.inf)
    for same in (mask, mask.long(), bias):
        torch.testing.assert_close(model(IDS, attention_mask=same).last_hidden_state, expected)


def test_boolean_masks() -> None:
    model = RobertaModel(config()).eval()
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    expected = model(IDS, attention_mask=mask).last_hidden_state
    assert torch.equal(model(IDS, attention_mask=mask.bool()).last_hidden_state, expected)


def test_head_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"head_mask: expected shape \(2,\) or \(2, 2\); found \(3,\)"):
        RobertaModel(config())(IDS, head_mask=torch.ones(3))


def test_a_decoder_takes_tuples_for_a_cache() -> None:
    model = RobertaForCausalLM(config(is_decoder=True)).eval()
    with torch.no_grad():
        whole = model(IDS).logits[:, -1:]
        cache = model(IDS[:, :5]).past_key_values
        assert len(cache) == 2
        assert [states.shape for states in cache[0]] == [(2, 2, 5, 8)] * 2
        legacy = cache.to_legacy_cache()
        torch.testing.assert_close(model(IDS[:, 5:], past_key_values=legacy).logits, whole)
        output = model(IDS[:, 5:], past_key_values=cache)
    torch.testing.assert_close(output.logits, whole)
    assert output.past_key_values is cache
    assert cache.get_seq_length() == 6


def test_a_cache_follows_its_beams() -> None:
    key, value = torch.arange(4.0).view(2, 1, 2, 1), torch.ones(2, 1, 2, 1)
    cache = KeyValueCache.from_legacy_cache([(key, value)])
    cache.reorder_cache(torch.tensor([1, 1]))
    assert cache[0][0].flatten().tolist() == [2.0, 3.0, 2.0, 3.0]
    with pytest.raises(IndexError):
        KeyValueCache(1)[0]


def test_cross_attention_needs_layers_and_a_decoder() -> None:
    with pytest.raises(ValueError, match="encoder_hidden_states: expected a model with add_cross_attention=True"):
        RobertaModel(config(is_decoder=True))(IDS, encoder_hidden_states=torch.zeros(2, 3, 16))
    with pytest.raises(ValueError, match="add_cross_attention: expected is_decoder=True"):
        RobertaModel(config(add_cross_attention=True))


def test_a_decoder_without_encoder_states_has_no_cross_attentions() -> None:
    output = RobertaModel(config(is_decoder=True, add_cross_attention=True))(IDS, output_attentions=True)
    assert len(output.attentions) == 2
    assert output.cross_attentions is None


def test_only_the_last_logits() -> None:
    model = RobertaForCausalLM(config(is_decoder=True)).eval()
    logits = model(IDS).logits
    torch.testing.assert_close(model(IDS, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(IDS, logits_to_keep=torch.tensor([0, 3])).logits, logits[:, [0, 3]])


def test_labels_decide_the_problem_type_once() -> None:
    model = RobertaForSequenceClassification(config(num_labels=3))
    assert model(IDS, labels=torch.tensor([0, 2], dtype=torch.int32)).loss.isfinite()
    assert model.config.problem_type == "single_label_classification"
    model = RobertaForSequenceClassification(config(num_labels=3))
    assert model(IDS, labels=torch.tensor([[True, False, True], [False, False, True]])).loss.isfinite()
    assert model.config.problem_type == "multi_label_classification"
    model = RobertaForSequenceClassification(config(num_labels=1))
    model(IDS, labels=torch.tensor([1, 2])).loss.backward()
    assert model.config.problem_type == "regression"


def test_question_answering_has_two_labels() -> None:
    with pytest.raises(ValueError, match="num_labels: expected 2"):
        RobertaForQuestionAnswering(config(num_labels=3))


def test_sequences_may_be_as_long_as_positions_last() -> None:
    model = RobertaModel(config()).eval()
    model(torch.full((1, 10), 5))
    with pytest.raises(IndexError):
        model(torch.full((1, 11), 5))
    model.forward_packed(TokenBatch.from_sequences([[5] * 10]))
    with pytest.raises(ValueError, match="expected sequences of at most 10 tokens; found one of 11"):
        model.forward_packed(TokenBatch.from_sequences([[5] * 11]))


def test_feed_forward_chunks_need_a_multiple() -> None:
    with pytest.raises(ValueError, match="chunk_size_feed_forward: expected a length that is a multiple of 4; found 6"):
        RobertaModel(config(chunk_size_feed_forward=4))(IDS)


def test_feed_forward_chunks_of_a_packed_batch_may_be_any() -> None:
    model = RobertaModel(config(chunk_size_feed_forward=4)).eval()
    whole = RobertaModel(config()).eval()
    whole.load_state_dict(model.state_dict())
    batch = TokenBatch.from_sequences([[0, 5, 2], [0, 7, 8, 2]])
    torch.testing.assert_close(
        model.forward_packed(batch).last_hidden_state, whole.forward_packed(batch).last_hidden_state
    )


def test_gradient_checkpointing_changes_no_gradient(caplog: pytest.LogCaptureFixture) -> None:
    model = RobertaForCausalLM(config(is_decoder=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    model.train()
    model(IDS, labels=IDS).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model(IDS, labels=IDS).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])
    with caplog.at_level(logging.WARNING, logger="models"):
        assert model(IDS).past_key_values is None
    assert "use_cache: off" in caplog.text
    model.gradient_checkpointing_disable()
    assert model(IDS).past_key_values is not None


def test_dropout_acts_in_training_only() -> None:
    model = RobertaForTokenClassification(config(hidden_dropout_prob=0.5)).train()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)
    model.eval()
    assert torch.equal(model(IDS).logits, model(IDS).logits)


def test_a_causal_model_that_sees_ahead_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="models"):
        RobertaForCausalLM(config())
    assert "without is_decoder=True" in caplog.text


def test_multiple_choice_packed_gives_one_score_a_sequence() -> None:
    model = RobertaForMultipleChoice(config()).eval()
    expected = model(IDS[None]).logits
    found = model.forward_packed(TokenBatch.from_sequences(IDS.tolist())).logits
    torch.testing.assert_close(found, expected[0])


def test_neighbours_of_equal_length_are_attended_to_together() -> None:
    batch = TokenBatch.from_sequences([[5] * n for n in (4, 4, 3, 3, 3, 4)])
    assert [tuple(run) for run in PackedLayout.of(batch).runs] == [(0, 8, 4), (8, 17, 3), (17, 21, 4)]


def test_the_packed_forward_pass_is_one_graph() -> None:
    model = RobertaForTokenClassification(config()).eval()
    batch = TokenBatch.from_sequences([[0, 5, 6, 2], [0, 7, 8, 2], [0, 3, 2]])
    compiled = torch.compile(model.forward_packed, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch).logits, model.forward_packed(batch).logits)
