"""What transformers' documents show of RoBERTa, RoFormer and RoCBert runs here: the same calls in the same order.

Imports are ours (`AutoTokenizer` and `AutoConfig` are `load_tokenizer` and `load_config`) and checkpoints local. There
is a test for each kind of example and a parameter for each class that has one. `TF*` and `Flax*` stand for the torch
class reading files of these frameworks, on torch tensors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer

import models.roberta
import models.rocbert
import models.roformer
from models import load_config, load_model, load_tokenizer
from models.modeling import PreTrainedModel
from models.roberta import RobertaConfig, RobertaModel, RobertaTokenizer, RobertaTokenizerFast
from models.rocbert import RoCBertConfig, RoCBertModel
from models.roformer import RoFormerConfig, RoFormerModel, RoFormerTokenizer, RoFormerTokenizerFast
from tests.support.legacy_files import as_flax, as_keras, write_h5, write_msgpack

SENTENCES = (
    "Hello world",
    "Hello, my dog is cute",
    "The capital of France is Paris.",
    "HuggingFace is a company based in Paris and New York",
    "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced.",
    "It is eaten with a fork and a knife.",
    "It is eaten while held in the hand.",
    "Who was Jim Henson?",
    "Jim Henson was a nice puppet",
)
PIECES = """
[PAD] [UNK] [CLS] [SEP] [MASK] 今 天 气 非常 好 。 你 ， 很 高 兴 认 识 法 国 是 首 都 水 在 零 度 时 会 我 最 的 之 過
the capital of france is paris < mask > . par ##i ##s hello my dog cute jim henson was a nice puppet it eaten ?"""
WORDPIECES = PIECES.split()
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
    "initializer_range": 0.3,
}

# -- local checkpoints -----------------------------------------------------------------------------------------


def save_roberta(folder: Path) -> PreTrainedModel:
    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(SENTENCES * 3, vocab_size=600, special_tokens=specials, show_progress=False)
    trained.save_model(str(folder))
    config = RobertaConfig(**SIZES, vocab_size=trained.get_vocab_size())
    return models.roberta.RobertaForMaskedLM(config)


def save_wordpieces(folder: Path) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in WORDPIECES), encoding="utf-8")


def save_roformer(folder: Path) -> PreTrainedModel:
    save_wordpieces(folder)
    return models.roformer.RoFormerForMaskedLM(RoFormerConfig(**SIZES, vocab_size=len(WORDPIECES)))


def save_rocbert(folder: Path) -> PreTrainedModel:
    save_wordpieces(folder)
    for name in ("word_shape.json", "word_pronunciation.json"):
        (folder / name).write_text(json.dumps({piece: i % 9 for i, piece in enumerate(WORDPIECES)}), encoding="utf-8")
    parts = {"shape_vocab_size": 9, "shape_embed_dim": 6, "pronunciation_vocab_size": 9, "pronunciation_embed_dim": 4}
    return models.rocbert.RoCBertForPreTraining(RoCBertConfig(**SIZES, **parts, vocab_size=len(WORDPIECES)))


FAMILIES: dict[str, tuple[Any, Callable[[Path], PreTrainedModel]]] = {
    "Roberta": (models.roberta, save_roberta),
    "RoFormer": (models.roformer, save_roformer),
    "RoCBert": (models.rocbert, save_rocbert),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes, once, the folder of a family's checkpoint with the weights of a framework: torch, tf or flax."""

    @cache
    def make(family: str, framework: str = "torch") -> Path:
        folder = tmp_path_factory.mktemp(f"{family}-{framework}")
        torch.manual_seed(0)
        model = FAMILIES[family][1](folder)
        model.save_pretrained(folder)
        if framework != "torch":
            (folder / "model.safetensors").unlink()
        if framework == "tf":
            write_h5(folder / "tf_model.h5", as_keras(model, "tf_model"))
        if framework == "flax":
            write_msgpack(folder / "flax_model.msgpack", as_flax(model))
        return folder

    return make


@dataclass(frozen=True, kw_only=True)
class Example:
    """A class of the documents, and where its checkpoint is."""

    model_class: type[PreTrainedModel]
    path: Path
    framework: str

    def model(self, **overrides: Any) -> Any:
        legacy: dict[str, Any] = {} if self.framework == "torch" else {f"from_{self.framework}": True}
        return self.model_class.from_pretrained(self.path, **legacy, **overrides)

    def tokenizer(self) -> Any:
        return load_tokenizer(self.path)


@pytest.fixture
def example(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Example:
    framework = next((prefix for prefix in ("TF", "Flax") if request.param.startswith(prefix)), "")
    name = request.param.removeprefix(framework)
    family = next(family for family in FAMILIES if name.startswith(family))
    framework = framework.lower() or "torch"
    return Example(
        model_class=getattr(FAMILIES[family][0], name), path=checkpoint(family, framework), framework=framework
    )


def documented(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", names, indirect=True)


# -- configurations and tokenizers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config_class", "model_class"),
    [(RobertaConfig, RobertaModel), (RoFormerConfig, RoFormerModel), (RoCBertConfig, RoCBertModel)],
    ids=["RobertaConfig", "RoFormerConfig", "RoCBertConfig"],
)
def test_configuration(config_class: Any, model_class: Any) -> None:
    configuration = config_class()
    with torch.device("meta"):  # the size that the documents make, without its memory
        model = model_class(configuration)
    configuration = model.config
    assert configuration.hidden_size == 768


@pytest.mark.parametrize("tokenizer_class", [RobertaTokenizer, RobertaTokenizerFast], ids=lambda c: c.__name__)
def test_roberta_tokenizer(tokenizer_class: Any, checkpoint: Callable[..., Path]) -> None:
    tokenizer = tokenizer_class.from_pretrained(checkpoint("Roberta"))
    first = tokenizer("Hello world")["input_ids"]
    after_blank = tokenizer(" Hello world")["input_ids"]
    assert (first[0], first[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert first[1] != after_blank[1]
    assert first[-2:] == after_blank[-2:]


@pytest.mark.parametrize("tokenizer_class", [RoFormerTokenizer, RoFormerTokenizerFast], ids=lambda c: c.__name__)
def test_roformer_tokenizer(tokenizer_class: Any, checkpoint: Callable[..., Path]) -> None:
    tokenizer = tokenizer_class.from_pretrained(checkpoint("RoFormer"))
    assert tokenizer.tokenize("今天天气非常好。") == ["今", "天", "天", "气", "非常", "好", "。"]


def test_token_types_of_rocbert(checkpoint: Callable[..., Path]) -> None:
    tokenizer: Any = load_tokenizer(checkpoint("RoCBert"))
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in ("你好", "很高兴"))
    tokenizer.token_type_ids_pattern = "all_zeros"
    assert tokenizer.create_token_type_ids_from_sequences(first, second) == [0] * 8
    assert tokenizer("你好", "很高兴")["token_type_ids"] == [0] * 8
    assert tokenizer.encode_flat(["你好"], ["很高兴"]).token_type_ids is None
    tokenizer.token_type_ids_pattern = "bert_style"
    assert tokenizer.create_token_type_ids_from_sequences(first, second) == [0] * 4 + [1] * 4
    assert tokenizer("你好", "很高兴")["token_type_ids"] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("tokenizer_class", [RobertaTokenizer, RobertaTokenizerFast], ids=lambda c: c.__name__)
def test_roberta_tokenizer_with_a_blank_before_the_first_word(
    tokenizer_class: Any, checkpoint: Callable[..., Path]
) -> None:
    """What the documents say of `add_prefix_space` and `is_split_into_words`, without code."""
    plain = tokenizer_class.from_pretrained(checkpoint("Roberta"))
    tokenizer = tokenizer_class.from_pretrained(checkpoint("Roberta"), add_prefix_space=True)
    expected = plain(" Hello world")["input_ids"]
    assert tokenizer("Hello world")["input_ids"] == expected
    assert tokenizer(["Hello", "world"], is_split_into_words=True)["input_ids"] == expected
    if not tokenizer.is_fast:
        assert plain("Hello world", add_prefix_space=True)["input_ids"] == expected


# -- models ----------------------------------------------------------------------------------------------------


@documented(
    "RobertaModel", "TFRobertaModel", "FlaxRobertaModel", "RoFormerModel", "TFRoFormerModel", "FlaxRoFormerModel"
)
def test_base_model(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    outputs = model(**inputs)
    last_hidden_states = outputs.last_hidden_state
    assert last_hidden_states.shape == (*inputs["input_ids"].shape, 16)


@documented("RobertaForCausalLM", "RoFormerForCausalLM", "RoCBertForCausalLM")
def test_causal_lm(example: Example) -> None:
    tokenizer = example.tokenizer()
    config = load_config(example.path)
    assert type(config).from_pretrained(example.path) == config  # some documents name the class
    config.is_decoder = True
    model = example.model(config=config)
    inputs = tokenizer("今天天气非常好。", return_tensors="pt")
    outputs = model(**inputs)
    prediction_logits = outputs.logits
    assert prediction_logits.shape == (*inputs["input_ids"].shape, model.config.vocab_size)
    assert len(outputs.past_key_values) == 2


@documented("TFRobertaForCausalLM", "FlaxRobertaForCausalLM", "TFRoFormerForCausalLM")
def test_causal_lm_of_other_frameworks(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    outputs = model(**inputs)
    next_token_logits = outputs.logits[:, -1]
    assert next_token_logits.shape == (1, model.config.vocab_size)


def fill_mask_and_learn(tokenizer: Any, model: Any, mask: str) -> None:
    inputs = tokenizer(f"The capital of France is {mask}.", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero(as_tuple=True)[0]
    assert len(mask_token_index) == (mask == tokenizer.mask_token)
    predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)
    assert isinstance(tokenizer.decode(predicted_token_id), str)

    labels = tokenizer("The capital of France is Paris.", return_tensors="pt")["input_ids"]
    labels = torch.where(inputs.input_ids == tokenizer.mask_token_id, labels, -100)
    outputs = model(**inputs, labels=labels)
    assert isinstance(round(outputs.loss.item(), 2), float)


@documented(
    "RobertaForMaskedLM",
    "TFRobertaForMaskedLM",
    "FlaxRobertaForMaskedLM",
    "RoFormerForMaskedLM",
    "TFRoFormerForMaskedLM",
    "FlaxRoFormerForMaskedLM",
)
def test_masked_lm(example: Example) -> None:
    tokenizer = example.tokenizer()
    fill_mask_and_learn(tokenizer, example.model(), tokenizer.mask_token)


@documented("RoFormerForMaskedLM")
def test_masked_lm_with_the_mask_of_another_family(example: Example, tmp_path: Path) -> None:
    """One document has RoBERTa's mask, which is three tokens here. It runs where "Paris" is as many."""
    folder = shutil.copytree(example.path, tmp_path / "model")
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8")
    (folder / "vocab.txt").write_text(vocabulary.replace("\nparis\n", "\n[unused]\n"), encoding="utf-8")
    fill_mask_and_learn(load_tokenizer(folder), example.model(), "<mask>")


@documented("RoCBertForMaskedLM")
def test_masked_lm_of_rocbert(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer("法国是首都[MASK].", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero(as_tuple=True)[0]
    predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)
    assert tokenizer.decode(predicted_token_id)


@documented(
    "RobertaForSequenceClassification",
    "TFRobertaForSequenceClassification",
    "FlaxRobertaForSequenceClassification",
    "RoFormerForSequenceClassification",
    "TFRoFormerForSequenceClassification",
    "FlaxRoFormerForSequenceClassification",
    "RoCBertForSequenceClassification",
)
def test_sequence_classification(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    predicted_class_id = logits.argmax().item()
    assert model.config.id2label[predicted_class_id] in ("LABEL_0", "LABEL_1")

    num_labels = len(model.config.id2label)
    model = example.model(num_labels=num_labels)
    labels = torch.tensor([1])
    loss = model(**inputs, labels=labels).loss
    assert round(loss.item(), 2) > 0


@documented("RobertaForSequenceClassification", "RoFormerForSequenceClassification", "RoCBertForSequenceClassification")
def test_multi_label_classification(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model(problem_type="multi_label_classification")
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    predicted_class_ids = torch.arange(0, logits.shape[-1])[torch.sigmoid(logits).squeeze(dim=0) > 0.5]

    num_labels = len(model.config.id2label)
    model = example.model(num_labels=num_labels, problem_type="multi_label_classification")
    labels = torch.sum(
        torch.nn.functional.one_hot(predicted_class_ids[None, :].clone(), num_classes=num_labels), dim=1
    ).to(torch.float)
    loss = model(**inputs, labels=labels).loss
    assert loss.isfinite()


@documented(
    "RobertaForMultipleChoice",
    "TFRobertaForMultipleChoice",
    "FlaxRobertaForMultipleChoice",
    "RoFormerForMultipleChoice",
    "TFRoFormerForMultipleChoice",
    "FlaxRoFormerForMultipleChoice",
    "RoCBertForMultipleChoice",
)
def test_multiple_choice(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
    choice0 = "It is eaten with a fork and a knife."
    choice1 = "It is eaten while held in the hand."
    labels = torch.tensor(0).unsqueeze(0)
    encoding = tokenizer([prompt, prompt], [choice0, choice1], return_tensors="pt", padding=True)
    outputs = model(**{k: v.unsqueeze(0) for k, v in encoding.items()}, labels=labels)
    assert outputs.loss.isfinite()
    assert outputs.logits.shape == (1, 2)


@documented(
    "RobertaForTokenClassification",
    "TFRobertaForTokenClassification",
    "FlaxRobertaForTokenClassification",
    "RoFormerForTokenClassification",
    "TFRoFormerForTokenClassification",
    "FlaxRoFormerForTokenClassification",
    "RoCBertForTokenClassification",
)
def test_token_classification(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer(
        "HuggingFace is a company based in Paris and New York", add_special_tokens=False, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits
    predicted_token_class_ids = logits.argmax(-1)
    predicted_tokens_classes = [model.config.id2label[t.item()] for t in predicted_token_class_ids[0]]
    assert len(predicted_tokens_classes) == inputs["input_ids"].shape[1]
    labels = predicted_token_class_ids
    loss = model(**inputs, labels=labels).loss
    assert round(loss.item(), 2) >= 0


@documented(
    "RobertaForQuestionAnswering",
    "TFRobertaForQuestionAnswering",
    "FlaxRobertaForQuestionAnswering",
    "RoFormerForQuestionAnswering",
    "TFRoFormerForQuestionAnswering",
    "FlaxRoFormerForQuestionAnswering",
    "RoCBertForQuestionAnswering",
)
def test_question_answering(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    question, text = "Who was Jim Henson?", "Jim Henson was a nice puppet"
    inputs = tokenizer(question, text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    answer_start_index = outputs.start_logits.argmax()
    answer_end_index = outputs.end_logits.argmax()
    predict_answer_tokens = inputs.input_ids[0, answer_start_index : answer_end_index + 1]
    assert isinstance(tokenizer.decode(predict_answer_tokens, skip_special_tokens=True), str)

    target_start_index = torch.tensor([14])
    target_end_index = torch.tensor([15])
    outputs = model(**inputs, start_positions=target_start_index, end_positions=target_end_index)
    loss = outputs.loss
    assert isinstance(round(loss.item(), 2), float)


@documented("RoCBertForPreTraining")
def test_pretraining(example: Example) -> None:
    tokenizer = example.tokenizer()
    model = example.model()
    inputs = tokenizer("你好，很高兴认识你", return_tensors="pt")
    attack_inputs = {}
    for key in list(inputs.keys()):
        attack_inputs[f"attack_{key}"] = inputs[key]
    label_inputs = {}
    for key in list(inputs.keys()):
        label_inputs[f"labels_{key}"] = inputs[key]
    inputs.update(label_inputs)
    inputs.update(attack_inputs)
    outputs = model(**inputs)
    logits = outputs.logits
    assert logits.shape == (1, 11, model.config.vocab_size)
    assert outputs.loss.isfinite()


# -- without naming a class ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("Roberta", "Plants create <mask> through a process known as photosynthesis."),
        ("RoFormer", "水在零度时会[MASK]"),
        ("RoCBert", "這家餐廳的拉麵是我[MASK]過的最好的拉麵之"),
    ],
)
def test_fill_mask(family: str, text: str, checkpoint: Callable[..., Path]) -> None:
    """The documents' `pipeline("fill-mask")` and `AutoModelForMaskedLM`, in half precision, as the calls they make."""
    tokenizer = load_tokenizer(checkpoint(family))
    model = load_model(checkpoint(family), task="masked-lm", dtype=torch.float16, device="cpu")
    inputs = tokenizer(text, return_tensors="pt").to(model.device)
    with torch.no_grad():
        outputs = model(**inputs)
        predictions = outputs.logits
    masked_index = torch.where(inputs["input_ids"] == tokenizer.mask_token_id)[1]
    predicted_token_id = predictions[0, masked_index].argmax(dim=-1)
    assert isinstance(tokenizer.decode(predicted_token_id), str)
    assert len(masked_index) == 1
