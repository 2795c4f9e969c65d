"""RoFormer: the shared encoder with rotary positions, and its heads."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from models.activations import activation
from models.encoder import EncoderModel
from models.errors import ConfigError
from models.heads import (
    ForCausalLM,
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from models.layers.layout import Layout
from models.lm_heads import LMHead, PredictionHeads
from models.modeling import PreTrainedModel
from models.outputs import BaseModelOutputWithPoolingAndCrossAttentions, ModelOutput
from models.roformer.config import RoFormerConfig
from models.roformer.encoder import RoFormerEmbeddings, RotaryBlockStack
from models.roformer.hf_weights import NAMES

# The order of positional arguments: as in other families, but without positions.
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "head_mask", "inputs_embeds")
ENCODER = ("encoder_hidden_states", "encoder_attention_mask")
OUTPUTS = ("output_attentions", "output_hidden_states", "return_dict")


class RoFormerPreTrainedModel(PreTrainedModel):
    """What all RoFormer models have in common."""

    config_class = RoFormerConfig
    base_model_prefix = "roformer"
    checkpoint_names = NAMES


class RoFormerModel(RoFormerPreTrainedModel, EncoderModel):
    """The encoder, or with `is_decoder` the decoder; see `EncoderModel`. It has no pooler and takes no positions.

    Sequences may be longer than the position table as long as the table is the sinusoid, which goes on; with a table
    of another kind longer ones are a ValueError.
    """

    positional = (*INPUTS, *ENCODER, "past_key_values", "use_cache", *OUTPUTS, "cache_position")
    construction_arguments = ()
    has_pooler_output = False

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(
            config, embeddings=RoFormerEmbeddings(config), blocks=RotaryBlockStack(config), add_pooling_layer=False
        )
        self.embeddings_project: nn.Linear | None = None
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        self.post_init()

    def embed(self, layout: Layout, **inputs: Tensor) -> Tensor:
        embedded = super().embed(layout, **inputs)
        return embedded if self.embeddings_project is None else self.embeddings_project(embedded)

    def _check_length(self, longest: int) -> None:
        """Nothing: the position table goes on, or says itself that it cannot."""


class RoFormerForCausalLM(RoFormerPreTrainedModel, ForCausalLM):
    positional = (
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "inputs_embeds",
        *ENCODER,
        "head_mask",
        "cross_attn_head_mask",
        "past_key_values",
        "labels",
        "use_cache",
        *OUTPUTS,
        "cache_position",
    )

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config, RoFormerModel(config))
        self.cls = PredictionHeads(config, embedding_size=config.embedding_size)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions

    def forward(
        self, *arguments: Any, cross_attn_head_mask: Tensor | None = None, **named: Any
    ) -> ModelOutput | tuple[Any, ...]:
        """The shared forward pass.

        Args:
            cross_attn_head_mask: Taken for compatibility; `head_mask` is for cross-attention too.
        """
        return super().forward(*arguments, **named)


class RoFormerForMaskedLM(RoFormerPreTrainedModel, ForMaskedLM):
    positional = (*INPUTS, *ENCODER, "labels", *OUTPUTS)

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config, RoFormerModel(config))
        self.cls = PredictionHeads(config, embedding_size=config.embedding_size)
        self.post_init()

    @property
    def output_head(self) -> LMHead:
        return self.cls.predictions


class RoFormerClassificationHead(nn.Module):
    """Two layers over the first token, with the config's activation between them."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """[N, H] to [N, L]."""
        hidden = self.activation(self.dense(self.dropout(first_tokens)))
        return cast(Tensor, self.out_proj(self.dropout(hidden)))


class RoFormerForSequenceClassification(RoFormerPreTrainedModel, ForSequenceClassification):
    positional = (*INPUTS, "labels", *OUTPUTS)

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config, RoFormerModel(config))
        self.classifier = RoFormerClassificationHead(config)
        self.post_init()


class RoFormerSequenceSummary(nn.Module):
    """One vector of a sequence, as the config's `summary_*` fields say.

    Raises:
        ConfigError: `summary_type` is unknown, or the projection does not fit the classifier.
    """

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        kinds = ("last", "first", "mean", "cls_index")
        if config.summary_type not in kinds:
            raise ConfigError(f"summary_type: expected one of {', '.join(kinds)}; found {config.summary_type!r}")
        self.kind = config.summary_type
        self.summary: nn.Module = nn.Identity()
        if config.summary_use_proj:
            width = config.num_labels if config.summary_proj_to_labels else config.hidden_size
            if width != config.hidden_size:
                raise ConfigError(
                    "summary_proj_to_labels: expected False, or as many labels as the hidden size "
                    f"{config.hidden_size}, which the classifier takes; found {width}"
                )
            self.summary = nn.Linear(config.hidden_size, width)
        self.activation = activation(config.summary_activation or "linear")
        self.first_dropout = nn.Dropout(config.summary_first_dropout)
        self.last_dropout = nn.Dropout(config.summary_last_dropout)

    def forward(self, states: Tensor, layout: Layout) -> Tensor:
        """[..., H] to [N, H]."""
        if self.kind == "first":
            vectors = layout.first_tokens(states)
        elif self.kind == "mean":
            vectors = layout.mean_tokens(states)
        else:  # no caller says where cls_index is, and then it is the last place
            vectors = layout.last_tokens(states)
        return cast(Tensor, self.last_dropout(self.activation(self.summary(self.first_dropout(vectors)))))


class RoFormerForMultipleChoice(RoFormerPreTrainedModel, ForMultipleChoice):
    positional = (*INPUTS, "labels", *OUTPUTS)

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config, RoFormerModel(config))
        self.sequence_summary = RoFormerSequenceSummary(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def score(self, encoded: BaseModelOutputWithPoolingAndCrossAttentions, layout: Layout) -> Tensor:
        """Logits [N], of the summary; on the padded layout its last place may be padding, on the packed one never."""
        return cast(Tensor, self.classifier(self.sequence_summary(encoded.last_hidden_state, layout))).squeeze(-1)


class RoFormerForTokenClassification(RoFormerPreTrainedModel, ForTokenClassification):
    positional = (*INPUTS, "labels", *OUTPUTS)

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__(config, RoFormerModel(config))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class RoFormerForQuestionAnswering(RoFormerPreTrainedModel, ForQuestionAnswering):
    positional = (*INPUTS, "start_positions", "end_positions", *OUTPUTS)

    def __init__(self, config: RoFormerConfig) -> None:
        config.num_labels = 2  # start and end, whatever task the config was for
        super().__init__(config, RoFormerModel(config))
        self.post_init()
