"""The head that a checkpoint brings with it, by its config and, where that is silent, by its tensors."""

from collections.abc import Mapping
from typing import Any

from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.pretrained.names import TEACHER
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
        if not hf.get("tie_word_embeddings", True):
            raise TlxError(f"{tensors.file} has an output layer of its own (tie_word_embeddings); tlx ties it.")
        return {"default": Head("masked_lm", hf["vocab_size"])}
    if suffix in ("ForQuestionAnswering", "ForMultipleChoice"):
        kind = "question_answering" if suffix == "ForQuestionAnswering" else "multiple_choice"
        return {"default": Head(kind, 2 if kind == "question_answering" else 1)}
    return {"default": _classifier(suffix, hf, tensors)}


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
