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
IMAGE = "ForImageClassification"
IMAGE_CLASSES = {"classification": IMAGE, "multilabel": IMAGE, "regression": IMAGE}
# Not a class: a masked language model whose output layer is not tied to the word embeddings.
UNTIED = "ForMaskedLM, untied"
TEACHER = "ForImageClassificationWithTeacher"  # DeiT's, of a head that reads both tokens
TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}  # other leaves have the same name

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
# Heads of a single layer, of most families of texts.
ONE_LAYER = {
    "ForTokenClassification": {"output": "classifier"},
    "ForQuestionAnswering": {"output": "qa_outputs"},
    "ForMultipleChoice": {"output": "classifier"},
}


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

    def current_name(self, tensor: str) -> str:
        """A tensor's name in a file, brought to today's."""
        for old, new in self.older:
            tensor = re.sub(old, new, tensor)
        return tensor

    def is_head_tensor(self, tensor: str) -> bool:
        """Whether a name is that of some head's tensor."""
        modules = {module for layers in self.heads.values() for module in layers.values()}
        return re.fullmatch(self.others, tensor) is not None or any(tensor.startswith(f"{m}.") for m in modules)
