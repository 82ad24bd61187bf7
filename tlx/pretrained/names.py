"""Which tensor of a PyTorch file a parameter is: one table per family, read in both directions.

A row says: a parameter whose path matches this regex is the tensor of this name; `T` transposes (torch keeps a linear
layer's weight as (out, in), linen's kernel is (in, out)).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tlx.errors import TlxError


@dataclasses.dataclass(frozen=True)
class Row:
    """A path's regex, the tensor's name as a template (each `/` taken from the path becomes `.`), transposed or not."""

    path: str
    tensor: str
    transpose: bool = False


@dataclasses.dataclass(frozen=True)
class Names:
    """A family's names.

    prefix: what every backbone tensor's name starts with in a file that has heads.
    rows: the table; the first row that matches decides.
    skipped: tensors that hold no parameter (buffers, copies of tied ones).
    unread: tensors of a part that a model without a pooler leaves out.
    classes: Hugging Face's class for each kind of head; under "" the one without a head.
    head_tensors: tensors of the checkpoint's own heads, as a regex.
    older: names in old files -> names today.
    """

    prefix: str
    rows: Sequence[Row]
    skipped: str
    unread: str
    head_tensors: str
    classes: Mapping[str, str]
    older: Sequence[tuple[str, str]] = ()

    def tensor_of(self, path: str) -> tuple[str, bool]:
        """(name without the prefix for a backbone's tensor, transposed) for a parameter's path."""
        for row in self.rows:
            if match := re.fullmatch(row.path, path):
                return match.expand(row.tensor).replace("/", "."), row.transpose
        raise TlxError(f"the parameter {path} has no name in a PyTorch checkpoint of this family.")

    def today(self, tensor: str) -> str:
        """A tensor's name in a file, brought to today's."""
        for old, new in self.older:
            tensor = re.sub(old, new, tensor)
        return tensor


BERT = Names(
    prefix="bert.",
    rows=(
        Row(r"heads/default/(transform/.+)/scale", r"cls.predictions.\1.weight"),
        Row(r"heads/default/(transform/.+)/kernel", r"cls.predictions.\1.weight", transpose=True),
        Row(r"heads/default/(transform/.+)/bias", r"cls.predictions.\1.bias"),
        Row(r"heads/default/bias", r"cls.predictions.bias"),
        Row(r"backbone/(.+)/embedding", r"\1.weight"),
        Row(r"backbone/(.+)/scale", r"\1.weight"),
        Row(r"backbone/(.+)/kernel", r"\1.weight", transpose=True),
        Row(r"backbone/(.+)/bias", r"\1.bias"),
        Row(r"heads/default/output/kernel", r"classifier.weight", transpose=True),
        Row(r"heads/default/output/bias", r"classifier.bias"),
    ),
    skipped=r"(bert\.)?embeddings\.(position_ids|token_type_ids)|cls\.predictions\.decoder\.(weight|bias)",
    unread=r"(pooler|cls\.seq_relationship)\..*",
    head_tensors=r"(classifier|cls|qa_outputs)\..*",
    classes={
        "": "BertModel",
        "classification": "BertForSequenceClassification",
        "multilabel": "BertForSequenceClassification",
        "regression": "BertForSequenceClassification",
        "tagging": "BertForTokenClassification",
        "masked_lm": "BertForMaskedLM",
    },
    older=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
)

NAMES = {"bert": BERT}
