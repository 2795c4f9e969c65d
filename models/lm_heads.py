"""From hidden states to scores of the vocabulary.

Legend: "..." is B, T on the padded layout and T on the packed one; H hidden size, E embedding size, V vocabulary.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from models.activations import activation
from models.config import EncoderConfig


class LMHead(nn.Module):
    """A layer from states to the vocabulary, after what the family does to the states first.

    Checkpoints know the bias by two names, `bias` and `decoder.bias`; here they are one parameter.
    Subclasses say what happens to the states first, because families name those parts differently.
    """

    def __init__(self, *, in_features: int, vocab_size: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(in_features, vocab_size)
        self.bias = self.decoder.bias

    def tie_bias(self) -> None:
        self.decoder.bias = self.bias

    def prepare(self, states: Tensor) -> Tensor:
        """[..., H] to the states [..., E] that are compared with the vocabulary's."""
        raise NotImplementedError

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] to [..., V]."""
        return cast(Tensor, self.decoder(self.prepare(states)))


class PredictionTransform(nn.Module):
    """A dense layer with the config's activation, and a norm."""

    def __init__(self, config: EncoderConfig, *, out_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, out_features)
        self.transform_act_fn = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(out_features, eps=config.layer_norm_eps)

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] to [..., E]."""
        return cast(Tensor, self.LayerNorm(self.transform_act_fn(self.dense(states))))


class PredictionHead(LMHead):
    """BERT's head, which its descendants kept.

    Args:
        embedding_size: Width of the word embeddings, if it is not the hidden size.
    """

    def __init__(self, config: EncoderConfig, *, embedding_size: int | None = None) -> None:
        width = config.hidden_size if embedding_size is None else embedding_size
        super().__init__(in_features=width, vocab_size=config.vocab_size)
        self.transform = PredictionTransform(config, out_features=width)

    def prepare(self, states: Tensor) -> Tensor:
        return cast(Tensor, self.transform(states))


class PredictionHeads(nn.Module):
    """What BERT's checkpoints keep under `cls`."""

    def __init__(self, config: EncoderConfig, *, embedding_size: int | None = None) -> None:
        super().__init__()
        self.predictions = PredictionHead(config, embedding_size=embedding_size)
