"""Which tensor of a checkpoint a parameter is: a family's heads as a table, read in both directions.

Inside the backbone a path is the name: `backbone/encoder/layer/0/output/dense/kernel` is `encoder.layer.0.output.dense`
and its weight. Heads have a row for each of their layers. PyTorch files join a name by `.` and keep a linear layer's
weight as (out, in), where linen's kernel is (in, out); Flax files join it by `/` and keep linen's leaves.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tlx.errors import TlxError
from tlx.models.heads import Head

# The end of Hugging Face's class for each kind of head.
TEXT_CLASSES = {
    "classification": "ForSequenceClassification",
    "multilabel": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "masked_lm": "ForMaskedLM",
    "question_answering": "ForQuestionAnswering",
    "multiple_choice": "ForMultipleChoice",
}
_IMAGE = "ForImageClassification"
IMAGE_CLASSES = {"classification": _IMAGE, "multilabel": _IMAGE, "regression": _IMAGE}
# Not a class: a masked language model whose output layer is not tied to the word embeddings.
UNTIED = "ForMaskedLM, untied"
TEACHER = "ForImageClassificationWithTeacher"  # DeiT's, of a head that reads both tokens
TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}  # other leaves have the same name
# Axes of a kernel in linen, by their number: (in, out) and (height, width, in, out); in PyTorch out and in come first.
TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}
TO_LINEN = {2: (1, 0), 4: (2, 3, 1, 0)}


# A name in some files -> in most; what is renamed first is looked for first.
OLDER = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
# transformers 5 has these in memory, and so in a file that torch.save wrote there; it saves those of before.
OF_IMAGES = (
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


@dataclasses.dataclass(frozen=True)
class Names:
    """A family's names, joined by `.` as in PyTorch.

    stem: what Hugging Face's classes begin with. prefix: what a backbone tensor's name begins with beside a head's.
    heads: end of the class -> layer of the head in tlx -> module in the file ("" is the head itself); where nothing
      tells two of them apart, the first is taken.
    classes: kind of head -> end of the class.
    decoder: module of a masked language model's output layer, which in a checkpoint has a copy of the embeddings.
    others: the modules of heads that tlx does not read, as a regex. pretrained_as: a class of pretraining whose masked
    language model is read. skipped: tensors that hold no parameter (buffers, copies of tied ones), as a regex.
    """

    stem: str
    prefix: str
    heads: Mapping[str, Mapping[str, str]]
    skipped: str
    classes: Mapping[str, str] = dataclasses.field(default_factory=lambda: TEXT_CLASSES)
    decoder: str = ""
    others: str = r"$^"
    pretrained_as: str | None = None
    older: Sequence[tuple[str, str]] = OLDER

    def class_of(self, head: Head | None) -> str:
        """The end of the class that has this head; `Model` without one."""
        if head is None:
            return "Model"
        return TEACHER if head.pooling == "distilled" else self.classes.get(head.kind, "")

    def layers_of(self, head: Head | None) -> str:
        """The key in `heads` of this head's layers: the end of the class, but for an output layer of its own."""
        return self.class_of(head) if head is None or head.tied else UNTIED

    @property
    def tied_bias(self) -> str:
        """The bias of a masked language model whose output layer is tied."""
        return f"{self.heads['ForMaskedLM']['']}.bias"

    def module_of(self, path: str, suffix: str) -> tuple[str, str]:
        """(module, leaf) for a parameter's path; suffix: the key in `heads` of the head `default`."""
        parent, _, leaf = path.rpartition("/")
        if parent.startswith("backbone/"):
            return parent.removeprefix("backbone/").replace("/", "."), leaf
        layer = f"{parent}/".removeprefix("heads/default/").removesuffix("/")
        layers = self.heads.get(suffix, {})
        if suffix == UNTIED:
            layers = {**self.heads["ForMaskedLM"], "decoder": self.decoder, "": self.decoder}
        if layer not in layers:
            raise TlxError(f"the parameter {path} has no name in a Hugging Face checkpoint of this family.")
        return layers[layer], leaf

    def tensor_of(self, path: str, suffix: str, flax: bool = False) -> tuple[str, bool]:
        """(name, a backbone's without the prefix; whether its axes are PyTorch's) for a parameter's path."""
        module, leaf = self.module_of(path, suffix)
        if flax:
            return f"{module}.{leaf}", False
        return f"{module}.{TORCH_LEAVES.get(leaf, leaf)}", leaf == "kernel"

    def today(self, tensor: str) -> str:
        """A tensor's name in a file, brought to today's."""
        for old, new in self.older:
            tensor = re.sub(old, new, tensor)
        return tensor

    def in_a_head(self, tensor: str) -> bool:
        """Whether a name is that of some head's tensor."""
        modules = {module for layers in self.heads.values() for module in layers.values()}
        return re.fullmatch(self.others, tensor) is not None or any(tensor.startswith(f"{m}.") for m in modules)


_ONE_LAYER = {
    "ForTokenClassification": {"output": "classifier"},
    "ForQuestionAnswering": {"output": "qa_outputs"},
    "ForMultipleChoice": {"output": "classifier"},
}

BERT = Names(
    stem="Bert",
    prefix="bert.",
    heads={
        "ForSequenceClassification": {"output": "classifier"},
        **_ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "cls.predictions.transform.dense",
            "transform/LayerNorm": "cls.predictions.transform.LayerNorm",
            "": "cls.predictions",
        },
    },
    skipped=r"(bert\.)?embeddings\.(position_ids|token_type_ids)|cls\.predictions\.decoder\.(weight|bias)",
    decoder="cls.predictions.decoder",
    others=r"cls\.seq_relationship\..*",
    pretrained_as="ForPreTraining",
)

ROBERTA = Names(
    stem="Roberta",
    prefix="roberta.",
    heads={
        "ForSequenceClassification": {"dense": "classifier.dense", "output": "classifier.out_proj"},
        **_ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "lm_head.dense",
            "transform/LayerNorm": "lm_head.layer_norm",
            "": "lm_head",
        },
    },
    skipped=r"(roberta\.)?embeddings\.(position_ids|token_type_ids)|lm_head\.decoder\.(weight|bias)",
    decoder="lm_head.decoder",
)

ELECTRA = Names(
    stem="Electra",
    prefix="electra.",
    heads={
        "ForSequenceClassification": {"dense": "classifier.dense", "output": "classifier.out_proj"},
        **_ONE_LAYER,
        "ForMaskedLM": {
            "transform/dense": "generator_predictions.dense",
            "transform/LayerNorm": "generator_predictions.LayerNorm",
            "": "generator_lm_head",
        },
        "ForMultipleChoice": {"dense": "sequence_summary.summary", "output": "classifier"},
    },
    skipped=r"(electra\.)?embeddings\.(position_ids|token_type_ids)|generator_lm_head\.weight",
    decoder="generator_lm_head",
    others=r"discriminator_predictions\..*",
)

_DISTILBERT_TEXT = {"dense": "pre_classifier", "output": "classifier"}
DISTILBERT = Names(
    stem="DistilBert",
    prefix="distilbert.",
    heads={
        "ForSequenceClassification": _DISTILBERT_TEXT,
        **_ONE_LAYER,
        "ForMultipleChoice": _DISTILBERT_TEXT,
        "ForMaskedLM": {
            "transform/dense": "vocab_transform",
            "transform/LayerNorm": "vocab_layer_norm",
            "": "vocab_projector",
        },
    },
    skipped=r"(distilbert\.)?embeddings\.position_ids|vocab_projector\.weight",
    decoder="vocab_projector",
)

VIT = Names(
    stem="ViT",
    prefix="vit.",
    heads={_IMAGE: {"output": "classifier"}},
    skipped=r"(vit\.)?embeddings\.mask_token",
    classes=IMAGE_CLASSES,
    others=r"decoder\..*",
    older=(*OLDER, *OF_IMAGES),
)

DEIT = Names(
    stem="DeiT",
    prefix="deit.",
    heads={
        _IMAGE: {"output": "classifier"},
        TEACHER: {"output": "cls_classifier", "teacher": "distillation_classifier"},
    },
    skipped=r"(deit\.)?embeddings\.mask_token",
    classes=IMAGE_CLASSES,
    others=r"decoder\..*",
    older=(*OLDER, *OF_IMAGES),
)

NAMES = {
    "bert": BERT,
    "camembert": dataclasses.replace(ROBERTA, stem="Camembert"),
    "deit": DEIT,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "roberta": ROBERTA,
    "vit": VIT,
    "xlm-roberta": dataclasses.replace(ROBERTA, stem="XLMRoberta"),
}
