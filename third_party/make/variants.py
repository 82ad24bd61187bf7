"""The reference checkpoints: what each one's config says, which class it is, and what it is fed."""

import dataclasses
from typing import Any

# Every name of hidden_act that tlx has; transformers' own table knows them all.
ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "hardswish", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "swish", "tanh",
)  # fmt: skip

TINY: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}

TINY_IMAGE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
    "encoder_stride": 4,
}

TINY_OF = {
    "bert": TINY,
    "roberta": TINY,
    "xlm-roberta": TINY,
    "camembert": TINY,
    "electra": {**TINY, "embedding_size": 24},
    "distilbert": {
        "vocab_size": 48,
        "dim": 32,
        "n_layers": 1,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 16,
    },
    "vit": TINY_IMAGE,
    "deit": TINY_IMAGE,
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One checkpoint and one batch.

    config: what differs from `TINY_OF` its family.
    head: None for the bare encoder (no `bert.` in its names), else a key of make.py's CLASSES or a problem_type.
    labels: how many outputs the classifier has.
    pooler: whether the bare encoder has one.
    given: which of the optional inputs are passed; the rest take the reference's defaults.
    lengths: how many tokens of each row are text; the rest of a row is padding.
    image: (height, width) of the images, if it is not the config's: positions are then interpolated.
    choices: of a multiple choice, how many rows belong together.
    dropout: train mode, with the masks of `pattern.py`.
    wide: multiplies the weights before the activation, so that clips and saturation are reached.
    seed: another draw. With some, float32 loses more to rounding (torch's own too) than a test at 1e-5 has room for.
    gradients: a regex on the names of the parameters whose gradient is kept.
    """

    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    head: str | None = "single_label_classification"
    labels: int = 3
    pooler: bool = True
    given: tuple[str, ...] = ("attention_mask", "token_type_ids")
    lengths: tuple[int, ...] = (10, 7, 4)
    image: tuple[int, int] | None = None
    choices: int = 0
    dropout: bool = False
    wide: float = 1.0
    seed: int = 0
    gradients: str = ".*"


RATES = {"hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.4}
TWO = {"num_hidden_layers": 2}
# To save room, the activations keep only the gradients of what comes before them, beside, and at the very start.
BESIDE = r".*(embeddings\.LayerNorm|self\.query|intermediate\.dense|output\.LayerNorm).*"

BERT: dict[str, Variant] = {
    "plain": Variant(TWO),
    "classification_2": Variant(labels=2),
    "regression_1": Variant(head="regression", labels=1),
    "regression_3": Variant(head="regression", labels=3),
    "multilabel_4": Variant(head="multi_label_classification", labels=4),
    "tagging_5": Variant(TWO, head="tagging", labels=5),
    "masked_lm": Variant(TWO, head="masked_lm"),
    "masked_lm_untied": Variant({"tie_word_embeddings": False}, head="masked_lm"),
    "question_answering": Variant(head="question_answering"),
    "multiple_choice": Variant(head="multiple_choice", choices=2, lengths=(10, 7, 4, 9)),
    "base": Variant(TWO, head=None),
    "base_no_pooler": Variant(head=None, pooler=False),
    "eps_1e-3": Variant({**TWO, "layer_norm_eps": 1e-3}),
    "eps_1e-5": Variant({"layer_norm_eps": 1e-5}),
    "token_types_1": Variant({"type_vocab_size": 1}),
    "token_types_3": Variant({"type_vocab_size": 3}),
    "pad_5": Variant({"pad_token_id": 5}),
    "pad_last": Variant({"pad_token_id": -1}),
    "pad_none": Variant({"pad_token_id": None}),
    "defaults": Variant(given=()),
    "no_padding": Variant(lengths=(10, 10, 10), given=("token_type_ids",), seed=4),
    "nothing_to_see": Variant(lengths=(10, 6, 0)),
    "full_length": Variant({"max_position_embeddings": 10}),
    "no_token_types": Variant(given=("attention_mask",)),
    "positions": Variant(TWO, given=("attention_mask", "token_type_ids", "position_ids"), seed=1),
    "layers_3": Variant({"num_hidden_layers": 3}),
    "odd_sizes": Variant({"hidden_size": 30, "num_attention_heads": 5, "intermediate_size": 44, "vocab_size": 37}),
    "dropout": Variant({**TWO, **RATES, "classifier_dropout": 0.15}, dropout=True, seed=7),
    "dropout_no_own_rate": Variant({**RATES, "classifier_dropout": None}, dropout=True),
    "dropout_hidden_only": Variant({**RATES, "attention_probs_dropout_prob": 0.0}, head=None, dropout=True),
    **{f"act_{name}": Variant({"hidden_act": name}, wide=3.0, gradients=BESIDE) for name in ACTIVATIONS},
}

MASKED = Variant({"hidden_act": "relu"}, head="masked_lm")  # before the vocabulary some families have GELU all the same
ANSWERS = Variant(head="question_answering")
CHOICE = Variant(head="multiple_choice", choices=2, lengths=(10, 7, 4, 9))
OWN_RATE = {**RATES, "classifier_dropout": 0.15}

ROBERTA: dict[str, Variant] = {
    "plain": Variant(TWO, given=("attention_mask",)),
    "regression_1": Variant(head="regression", labels=1),
    "tagging_5": Variant(head="tagging", labels=5),
    "masked_lm": MASKED,
    "masked_lm_untied": dataclasses.replace(MASKED, config={**MASKED.config, "tie_word_embeddings": False}),
    "question_answering": ANSWERS,
    "multiple_choice": CHOICE,
    "base": Variant(head=None),
    "defaults": Variant(given=()),
    "positions": Variant(given=("attention_mask", "token_type_ids", "position_ids")),
    "token_types_1": Variant({"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "pad_5": Variant({"pad_token_id": 5}),
    "longest": Variant({"max_position_embeddings": 12}, given=("attention_mask",)),
    "dropout": Variant({**TWO, **OWN_RATE}, dropout=True),
    "dropout_tokens": Variant(OWN_RATE, head="tagging", dropout=True),
    "dropout_choice": dataclasses.replace(CHOICE, config=OWN_RATE, dropout=True),
}

ELECTRA: dict[str, Variant] = {
    "plain": Variant(TWO),
    "one_width": Variant({"embedding_size": 32}),
    "multilabel_4": Variant(head="multi_label_classification", labels=4),
    "tagging_5": Variant(head="tagging", labels=5),
    "masked_lm": MASKED,
    "masked_lm_untied": dataclasses.replace(MASKED, config={**MASKED.config, "tie_word_embeddings": False}),
    "question_answering": ANSWERS,
    "multiple_choice": CHOICE,
    "summary_tanh": dataclasses.replace(CHOICE, config={"summary_activation": "tanh"}),
    "discriminator": Variant(head="discriminator"),
    "base": Variant(head=None),
    "defaults": Variant(given=()),
    "eps_1e-3": Variant({"layer_norm_eps": 1e-3}),
    "dropout": Variant({**TWO, **OWN_RATE}, dropout=True),
    "dropout_choice": dataclasses.replace(CHOICE, config={**OWN_RATE, "summary_last_dropout": 0.3}, dropout=True),
}

MASK = ("attention_mask",)  # all that DistilBERT takes beside the ids
DISTIL_RATES = {"dropout": 0.25, "attention_dropout": 0.4, "seq_classif_dropout": 0.15, "qa_dropout": 0.3}

DISTILBERT: dict[str, Variant] = {
    "plain": Variant({"n_layers": 2}, given=MASK),
    "regression_1": Variant(head="regression", labels=1, given=MASK),
    "tagging_5": Variant(head="tagging", labels=5, given=MASK),
    "masked_lm": Variant({"activation": "relu"}, head="masked_lm", given=MASK),
    "masked_lm_untied": Variant({"tie_word_embeddings": False}, head="masked_lm", given=MASK),
    "question_answering": dataclasses.replace(ANSWERS, given=MASK),
    "multiple_choice": dataclasses.replace(CHOICE, given=MASK),
    "base": Variant(head=None, given=MASK),
    "defaults": Variant(given=()),
    "positions": Variant(given=("attention_mask", "position_ids")),
    "pad_5": Variant({"pad_token_id": 5}, given=MASK),
    "dropout": Variant({"n_layers": 2, **DISTIL_RATES}, given=MASK, dropout=True),
    "dropout_tokens": Variant(DISTIL_RATES, head="tagging", given=MASK, dropout=True),
    "dropout_answers": dataclasses.replace(ANSWERS, config=DISTIL_RATES, given=MASK, dropout=True),
    "dropout_choice": dataclasses.replace(CHOICE, config=DISTIL_RATES, given=MASK, dropout=True),
}

IMAGE_RATES = {"hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.4}
# 5 patches down and 3 across, beside what is left over at the lower and right edge; 5 channels
ODD = {"hidden_size": 30, "num_attention_heads": 5, "image_size": [22, 17], "patch_size": [4, 5], "num_channels": 5}

VIT: dict[str, Variant] = {
    "plain": Variant(TWO),
    "regression_1": Variant(head="regression", labels=1),
    "multilabel_4": Variant(head="multi_label_classification", labels=4),
    "base": Variant(TWO, head=None),
    "base_no_pooler": Variant(head=None, pooler=False),
    "pooler_24": Variant({"pooler_output_size": 24, "pooler_act": "relu"}, head=None),
    "no_qkv_bias": Variant({**TWO, "qkv_bias": False}),
    "eps_1e-3": Variant({"layer_norm_eps": 1e-3}),
    "gelu_new": Variant({"hidden_act": "gelu_new"}),
    "layers_3": Variant({"num_hidden_layers": 3}),
    "odd_sizes": Variant(ODD),
    "one_channel": Variant({"num_channels": 1, "patch_size": 8}),
    "larger_image": Variant(image=(24, 24)),
    "smaller_image": Variant({"image_size": 24}, image=(16, 16)),
    "oblong_image": Variant(image=(12, 29), head=None),
    "same_patches": Variant(image=(8, 32)),
    "dropout": Variant({**TWO, **IMAGE_RATES}, dropout=True),
    "dropout_hidden_only": Variant({**IMAGE_RATES, "attention_probs_dropout_prob": 0.0}, head=None, dropout=True),
}

DEIT: dict[str, Variant] = {
    "plain": Variant(TWO, seed=1),
    "teacher": Variant(TWO, head="teacher"),
    "base": Variant(head=None),
    "no_qkv_bias": Variant({"qkv_bias": False}),
    "odd_sizes": Variant(ODD, head="teacher"),
    "larger_image": Variant(image=(24, 20), head="teacher"),
    "dropout": Variant({**TWO, **IMAGE_RATES}, head="teacher", dropout=True),
}

# RoBERTa's architecture under another name: a bare encoder, and each head that has a class of its own.
RELATIVE = {
    "base": Variant(TWO, head=None),
    "plain": Variant(),
    "tagging_5": Variant(head="tagging", labels=5),
    "masked_lm": MASKED,
}

VARIANTS = {
    "bert": BERT, "roberta": ROBERTA, "electra": ELECTRA, "distilbert": DISTILBERT, "vit": VIT, "deit": DEIT,
    "xlm-roberta": RELATIVE, "camembert": RELATIVE,
}  # fmt: skip
