"""The tensor names of checkpoints: a table of each family's heads, used for reading and for writing.

The backbone needs no table: `backbone/encoder/layer/0/output/dense/kernel` is `encoder.layer.0.output.dense.weight`.
Heads have an entry for each of their layers. PyTorch files join the parts of a name by `.` and store the weight of a
linear layer as (out, in), where linen's kernel is (in, out). Flax files join them by `/` and have linen's leaves.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tlx.errors import TlxError
from tlx.models.heads import Head

# Kind of head -> suffix of the Hugging Face class.
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
# Not the suffix of a class: a masked language model whose output layer is not tied to the word embeddings.
UNTIED = "ForMaskedLM, untied"
TEACHER = "ForImageClassificationWithTeacher"  # DeiT's, of a head that reads both tokens
TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}  # other leaves have the same name

# (regex on older names, current name), applied in this order.
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
    """The tensor names of a family, joined by `.` as in PyTorch.

    Attributes:
      stem: the prefix of the Hugging Face class names.
      prefix: the prefix of the backbone's tensors in a checkpoint with a head.
      heads: suffix of the class -> layer of the head in tlx -> module in the file; the layer "" is the head itself. If
        a file fits several suffixes, the first is used.
      skipped: a regex for tensors that are not parameters (buffers, copies of tied parameters).
      classes: kind of head -> suffix of the class.
      decoder: the module of a masked language model's output layer. In a checkpoint it has a copy of the embeddings.
      others: a regex for the modules of heads that tlx does not read.
      pretrained_as: the suffix of a pretraining class whose masked language model is read.
      older: pairs of a regex on an older name and its replacement.
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
        """Returns the suffix of the class that has this head; `Model` for None."""
        if head is None:
            return "Model"
        return TEACHER if head.pooling == "distilled" else self.classes.get(head.kind, "")

    def layers_of(self, head: Head | None) -> str:
        """Returns the key in `heads` of this head's layers: the suffix of the class, or `UNTIED`."""
        return self.class_of(head) if head is None or head.tied else UNTIED

    @property
    def tied_bias(self) -> str:
        """The name of the bias of a masked language model whose output layer is tied."""
        return f"{self.heads['ForMaskedLM']['']}.bias"

    def module_of(self, path: str, suffix: str) -> tuple[str, str]:
        """Returns the module and the leaf of a parameter.

        Args:
          path: the path of the parameter.
          suffix: the key in `heads` of the head `default`.

        Raises:
          TlxError: the parameter has no name in a Hugging Face checkpoint.
        """
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
        """Returns the name of a parameter's tensor and whether its axes have PyTorch's order.

        A backbone's name is returned without the prefix.

        Args:
          path: the path of the parameter.
          suffix: the key in `heads` of the head `default`.
          flax: whether the file has Flax's names.
        """
        module, leaf = self.module_of(path, suffix)
        if flax:
            return f"{module}.{leaf}", False
        return f"{module}.{TORCH_LEAVES.get(leaf, leaf)}", leaf == "kernel"

    def current_name(self, tensor: str) -> str:
        """Returns the current name for a tensor's name in a file, which may be an older one."""
        for old, new in self.older:
            tensor = re.sub(old, new, tensor)
        return tensor

    def is_head_tensor(self, tensor: str) -> bool:
        """Returns whether the tensor belongs to a head."""
        modules = {module for layers in self.heads.values() for module in layers.values()}
        return re.fullmatch(self.others, tensor) is not None or any(tensor.startswith(f"{m}.") for m in modules)
