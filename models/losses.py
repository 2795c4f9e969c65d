"""Losses of the heads, from logits and labels.

Legend: B batch, T length, V vocabulary, L labels, C choices.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.config import PretrainedConfig

IGNORE_INDEX = -100


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over labels [B, T] that are not -100; logits [B, T, V], of words or of classes."""
    return functional.cross_entropy(
        logits.flatten(0, -2), labels.to(logits.device, torch.int64).flatten(), ignore_index=IGNORE_INDEX
    )


def causal_lm_loss(logits: Tensor, labels: Tensor, *, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross entropy of position t's logits [B, T, V] against the label [B, T] at t + 1, in float32.

    Args:
        num_items_in_batch: Divides the sum, instead of the number of labels that are not -100; for gradient
            accumulation.
    """
    shifted = functional.pad(labels.to(logits.device, torch.int64), (0, 1), value=IGNORE_INDEX)[..., 1:]
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = functional.cross_entropy(
        logits.float().flatten(0, -2), shifted.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction
    )
    if isinstance(num_items_in_batch, Tensor):
        num_items_in_batch = num_items_in_batch.to(loss.device)
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def sequence_classification_loss(logits: Tensor, labels: Tensor, config: PretrainedConfig) -> Tensor:
    """The loss that the config's problem type asks for; logits [B, L], labels [B] or [B, L].

    A config without a problem type gets one from the labels, for good: pipelines read it off the saved model.
    """
    if config.problem_type is None:
        config.problem_type = _problem_type(config.num_labels, labels)
    labels = labels.to(logits.device)
    if config.problem_type == "single_label_classification":
        return functional.cross_entropy(
            logits.view(-1, config.num_labels), labels.long().flatten(), ignore_index=IGNORE_INDEX
        )
    labels = labels.to(logits.dtype)
    if config.problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, labels)
    if config.num_labels == 1:
        return functional.mse_loss(logits.squeeze(), labels.squeeze())
    return functional.mse_loss(logits, labels)


def multiple_choice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over choices; logits [B, C], labels [B]."""
    return functional.cross_entropy(logits, labels.to(logits.device, torch.int64))


def contrastive_loss(pooled: Tensor, attacked: Tensor, correct: Tensor) -> Tensor:
    """How badly a text and its correct version are told from others as what an attack was made from: all [B, H].

    Cosine similarities, times 100, are the logits of a choice among the batch's attacks.
    """
    pooled, attacked, correct = (functional.normalize(vectors, dim=-1) for vectors in (pooled, attacked, correct))
    own_row = torch.arange(len(pooled), device=pooled.device)
    from_text = functional.cross_entropy(100 * pooled @ attacked.T, own_row)
    from_correct = functional.cross_entropy(100 * correct @ attacked.T, own_row)
    return (from_text + from_correct) / 2


def span_loss(start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Average of the cross entropies of a span's two ends; logits [B, T], positions [B] or [B, 1].

    Positions beyond the sequence are ignored; negative ones count as position 0.
    """
    length = start_logits.shape[1]

    def end_loss(logits: Tensor, positions: Tensor) -> Tensor:
        target = positions.to(logits.device, torch.int64).flatten().clamp(0, length)
        return functional.cross_entropy(logits, target, ignore_index=length)

    return (end_loss(start_logits, start_positions) + end_loss(end_logits, end_positions)) / 2


def _problem_type(num_labels: int, labels: Tensor) -> str:
    if num_labels == 1:
        return "regression"
    if labels.dtype in (torch.int64, torch.int32):
        return "single_label_classification"
    return "multi_label_classification"
