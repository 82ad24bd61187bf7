"""Finds the head that a checkpoint contains, from its config or, if the config names none, from its tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.names import TEACHER
from tlx.pretrained.tensors import Tensors

PROBLEMS = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}  # problem_type of a Hugging Face config -> kind of head


def checkpoint_heads(hf: Mapping[str, Any], tensors: Tensors) -> dict[str, Head]:
    """Returns the checkpoint's head as `{"default": head}`.

    The result is empty if the checkpoint has no head, or one of a kind that tlx does not support (next sentence
    prediction, replaced token detection).

    Args:
      hf: the content of `config.json`.
      tensors: the checkpoint's tensors.

    Raises:
      TlxError: the config describes a head that cannot be built.
    """
    suffix = _suffix([str(name) for name in hf.get("architectures") or ()], tensors)
    if suffix is None:
        return {}
    if suffix == "ForMaskedLM":
        return {"default": Head("masked_lm", hf["vocab_size"], tied=_tied(hf, tensors))}
    if suffix in ("ForQuestionAnswering", "ForMultipleChoice"):
        kind = "question_answering" if suffix == "ForQuestionAnswering" else "multiple_choice"
        return {"default": Head(kind, 2 if kind == "question_answering" else 1)}
    return {"default": _classifier(suffix, hf, tensors)}


def _tied(hf: Mapping[str, Any], tensors: Tensors) -> bool:
    """Returns whether the output layer shares its weights with the word embeddings and uses the head's bias.

    The tensors in the file decide, as in transformers: an output layer that is absent or equal to the embeddings is
    tied, and one that differs is not. If the config says that the layer is not tied and the file lacks it, it is
    reported as missing when the tensors are loaded.

    The bias is a special case. BERT's and RoBERTa's classes have two names for it, and transformers 4 uses one tensor
    for both names, whether or not the embeddings are tied. Its files hold the head's bias only, which is then also the
    bias of the output layer. transformers 5 reports the other name as missing and initializes it to zero; this function
    keeps the trained bias.
    """
    decoder, stored = tensors.names.decoder, tensors.stored
    kernel, table = ("kernel", "embedding") if tensors.flax else ("weight", "weight")
    embeddings = f"embeddings.word_embeddings.{table}"
    bias = tensors.names.tied_bias
    tied = tied_in_config = bool(hf.get("tie_word_embeddings", True))
    if f"{decoder}.{kernel}" in stored and embeddings in stored:
        tied = tied and _equal(stored[f"{decoder}.{kernel}"].read(), stored[embeddings].read(), tensors.flax)
    if bias in stored and f"{decoder}.bias" in stored:
        tied = tied and _equal(stored[f"{decoder}.bias"].read(), stored[bias].read())
    if not tied and bias in stored:
        stored.setdefault(f"{decoder}.bias", stored[bias])
        if tied_in_config and f"{decoder}.{kernel}" not in stored and embeddings in stored and not tensors.flax:
            stored.setdefault(f"{decoder}.{kernel}", stored[embeddings])
    return tied


def _equal(first: np.ndarray, second: np.ndarray, transposed: bool = False) -> bool:
    first = first.T if transposed else first
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _suffix(classes: list[str], tensors: Tensors) -> str | None:
    """Returns the suffix of the transformers class whose head the checkpoint holds, such as `ForMaskedLM`."""
    for name in classes:
        if tensors.names.pretrained_as and name.endswith(tensors.names.pretrained_as):
            return "ForMaskedLM"
        for suffix in tensors.names.heads:
            if name.endswith(suffix):
                return suffix
    layers = {suffix: modules.values() for suffix, modules in tensors.names.heads.items()}
    present = [suffix for suffix in layers if all(f"{layer}.bias" in tensors.stored for layer in layers[suffix])]
    return max(present, key=lambda suffix: len(layers[suffix]), default=None)  # the first of those with most layers


def _classifier(suffix: str, hf: Mapping[str, Any], tensors: Tensors) -> Head:
    layer = tensors.names.heads[suffix]["output"]
    problem, names = hf.get("problem_type"), hf.get("id2label") or {}
    try:
        labels = tuple(str(names[key]) for key in sorted(names, key=int))
    except (TypeError, ValueError, AttributeError):
        raise TlxError(f"{tensors.folder}/config.json: id2label is not a table from numbers to names.") from None
    num_labels = hf.get("num_labels")
    outputs = len(labels) or (num_labels if isinstance(num_labels, int) else None) or tensors.outputs_of(layer) or 2
    if suffix == "ForTokenClassification":
        return Head("tagging", outputs, labels=labels)
    if problem is None:
        problem = "regression" if outputs == 1 else "single_label_classification"
    if not isinstance(problem, str) or problem not in PROBLEMS:
        raise TlxError(
            f"{tensors.file} has a classifier for problem_type {problem!r}; tlx supports {listed(PROBLEMS)}. "
            "Pass heads=… for a new head."
        )
    return Head(PROBLEMS[problem], outputs, "distilled" if suffix == TEACHER else "pooler", labels)
