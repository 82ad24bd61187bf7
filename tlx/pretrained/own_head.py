"""The head that a checkpoint brings with it, by its config and, where that is silent, by its tensors."""

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


def own_heads(hf: Mapping[str, Any], tensors: Tensors) -> dict[str, Head]:
    """`{"default": …}`, or nothing: a head of a kind that tlx lacks (next sentence, replaced token) is left out."""
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
    """Whether the output layer is the word embedding and has the head's bias.

    What a file holds counts: transformers ties an output layer that is absent or equal, and keeps one that differs.
    A layer that is absent though the config says it is not tied is not made up: it is missing when tensors are read.

    The bias is another matter. BERT's and RoBERTa's classes know it under two names, and transformers 4 holds it as one
    tensor whether or not the embeddings are tied: such a file has the head's bias alone, which is then that of the
    output layer. transformers 5 reports the other name as missing, and starts it at zero; what was learnt is kept here.
    """
    decoder, stored = tensors.names.decoder, tensors.stored
    kernel, table = ("kernel", "embedding") if tensors.flax else ("weight", "weight")
    words = f"embeddings.word_embeddings.{table}"
    bias = tensors.names.tied_bias
    tied = said = bool(hf.get("tie_word_embeddings", True))
    if f"{decoder}.{kernel}" in stored and words in stored:
        tied = tied and _equal(stored[f"{decoder}.{kernel}"].read(), stored[words].read(), tensors.flax)
    if bias in stored and f"{decoder}.bias" in stored:
        tied = tied and _equal(stored[f"{decoder}.bias"].read(), stored[bias].read())
    if not tied and bias in stored:
        stored.setdefault(f"{decoder}.bias", stored[bias])
        if said and f"{decoder}.{kernel}" not in stored and words in stored and not tensors.flax:
            stored.setdefault(f"{decoder}.{kernel}", stored[words])
    return tied


def _equal(own: np.ndarray, other: np.ndarray, transposed: bool = False) -> bool:
    own = own.T if transposed else own
    return own.shape == other.shape and own.tobytes() == other.tobytes()


def _suffix(classes: list[str], tensors: Tensors) -> str | None:
    """The end of the class whose head is read."""
    for name in classes:
        if tensors.names.pretrained_as and name.endswith(tensors.names.pretrained_as):
            return "ForMaskedLM"
        for suffix in tensors.names.heads:
            if name.endswith(suffix):
                return suffix
    layers = {suffix: modules.values() for suffix, modules in tensors.names.heads.items()}
    there = [suffix for suffix in layers if all(f"{layer}.bias" in tensors.stored for layer in layers[suffix])]
    return max(there, key=lambda suffix: len(layers[suffix]), default=None)  # the first of those with most layers


def _classifier(suffix: str, hf: Mapping[str, Any], tensors: Tensors) -> Head:
    layer = tensors.names.heads[suffix]["output"]
    problem, names = hf.get("problem_type"), hf.get("id2label") or {}
    try:
        labels = tuple(str(names[key]) for key in sorted(names, key=int))
    except (TypeError, ValueError, AttributeError):
        raise TlxError(f"{tensors.folder}/config.json: id2label is no table from numbers to names.") from None
    given = hf.get("num_labels")
    outputs = len(labels) or (given if isinstance(given, int) else None) or tensors.outputs_of(layer) or 2
    if suffix == "ForTokenClassification":
        return Head("tagging", outputs, labels=labels)
    if problem is None:
        problem = "regression" if outputs == 1 else "single_label_classification"
    if not isinstance(problem, str) or problem not in PROBLEMS:
        raise TlxError(
            f"{tensors.file} has a classifier for problem_type {problem!r}; tlx has {listed(PROBLEMS)}. "
            "Say heads=… for a new one."
        )
    return Head(PROBLEMS[problem], outputs, "distilled" if suffix == TEACHER else "pooler", labels)
