"""From a Hugging Face checkpoint to a model and its parameters; every disagreement is told at once."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.layers import Dtype
from tlx.models.model import FAMILIES, Model, build_model, dummy_inputs, needs_pooler
from tlx.params.paths import flatten, unflatten
from tlx.params.rules import matches
from tlx.pretrained.folder import read_config, resolve
from tlx.pretrained.names import NAMES, Names

# The end of the name of a class whose head tlx reads -> a tensor that tells it where the config names no class
OWN = {
    "ForSequenceClassification": "classifier.weight",
    "ForTokenClassification": "classifier.weight",
    "ForMaskedLM": "cls.predictions.bias",
    "ForPreTraining": "cls.predictions.bias",
}
PROBLEMS = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}  # problem_type of a Hugging Face config -> kind of head
PARTS = {"pooler": "backbone/pooler/.*", "heads": "heads/.*", "all": ".*"}


def from_pretrained(
    checkpoint: str | os.PathLike[str],
    heads: int | Mapping[str, Head] | None = None,
    *,
    initialise: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    seed: int = 0,
    param_dtype: Dtype = jnp.float32,
    dtype: Dtype = None,
    **config_changes: Any,
) -> tuple[Model, dict[str, Any]]:
    """Loads a published checkpoint.

    Args:
      checkpoint: a folder, `package:NAME/FOLDER`, or a hub id (see `tlx.pretrained.folder.resolve`).
      heads: None takes the checkpoint's own head, if it has one, under the name `default`; a number makes a new
        classification head `default`; a mapping makes new heads by name.
      initialise: parts to draw anew where the file lacks them or has another shape: `pooler`, `heads`, `all` or a
        regex on the whole path. New heads need not be named.
      ignore: regexes on tensors' names in the file that may be left over.
      seed: of what is drawn anew.
      param_dtype: of the parameters, whatever the file holds.
      dtype: what to compute in; None: as the parameters.
      config_changes: fields of the config to change, such as `hidden_dropout_prob=0.0` or `add_pooling_layer=False`.

    Returns:
      The linen module and its parameters, so that
      `model.apply({"params": params}, input_ids=…).logits["default"]` are the logits.

    Raises:
      TlxError: no such checkpoint; a family or setting that tlx lacks; missing, extra or reshaped tensors.
    """
    folder = resolve(os.fspath(checkpoint))
    hf = read_config(folder)
    if hf["model_type"] not in FAMILIES:
        raise TlxError(f"{folder} is a {hf['model_type']!r} checkpoint; tlx has {listed(sorted(FAMILIES))}.")
    tensors = Tensors(folder, NAMES[hf["model_type"]])
    own = heads is None
    chosen = own_heads(hf, tensors) if heads is None else as_heads(heads)
    config_changes = {"add_pooling_layer": needs_pooler(chosen), **config_changes}
    model = build_model(FAMILIES[hf["model_type"]][0].from_hf(hf, **config_changes), chosen, dtype)
    selectors = [PARTS.get(part, part) for part in _regexes(initialise, "initialise")]
    selectors += [] if own else [PARTS["heads"]]
    unread = [] if needs_pooler(chosen) else [tensors.names.unread]
    left_over = [*_regexes(ignore, "ignore"), *unread]
    params = tensors.load(abstract_params(model), selectors, left_over, own, param_dtype)
    return model, _with_new(model, params, seed, param_dtype)


def _regexes(given: str | Sequence[str], what: str) -> list[str]:
    regexes = [given] if isinstance(given, str) else list(given)
    for regex in regexes:
        try:
            re.compile(regex)
        except re.error as error:
            raise TlxError(f"{what}: {regex!r} is not a regular expression ({error}).") from None
    return regexes


def as_heads(heads: int | Mapping[str, Head]) -> dict[str, Head]:
    """A number is a classification head `default` with so many classes."""
    return {"default": Head("classification", heads)} if isinstance(heads, int) else dict(heads)


def own_heads(hf: Mapping[str, Any], tensors: "Tensors") -> dict[str, Head]:
    """The checkpoint's own head, if its config or its file has one that tlx knows."""
    classes = [str(name) for name in hf.get("architectures") or ()]
    suffixes = [suffix for suffix in OWN if any(name.endswith(suffix) for name in classes)]
    if not suffixes and not any(name.endswith("ForMultipleChoice") for name in classes):  # its tensors have our names
        suffixes = [suffix for suffix, sign in OWN.items() if sign in tensors.files]
    if not suffixes:
        return {}
    if suffixes[0] in ("ForMaskedLM", "ForPreTraining"):
        if not hf.get("tie_word_embeddings", True):
            raise TlxError(f"{tensors.file} has an output layer of its own (tie_word_embeddings); tlx ties it.")
        return {"default": Head("masked_lm", hf["vocab_size"])}
    return {"default": _classifier(suffixes[0], hf, tensors)}


def _classifier(suffix: str, hf: Mapping[str, Any], tensors: "Tensors") -> Head:
    here = "classifier.weight" in tensors.files
    problem, names = hf.get("problem_type"), hf.get("id2label") or {}
    outputs = len(names) or hf.get("num_labels") or (tensors.shape("classifier.weight")[0] if here else 2)
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    if suffix == "ForTokenClassification":
        return Head("tagging", outputs, labels=labels)
    if problem is None:
        problem = "regression" if outputs == 1 else "single_label_classification"
    if problem not in PROBLEMS:
        raise TlxError(
            f"{tensors.file} has a classifier for problem_type {problem!r}; tlx has {listed(PROBLEMS)}. "
            "Say heads=… for a new one."
        )
    return Head(PROBLEMS[problem], outputs, labels=labels)


def abstract_params(model: Model) -> dict[str, Any]:
    """Shapes and dtypes of a model's parameters; nothing is computed."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), **dummy_inputs()))["params"]


def _with_new(model: Model, params: dict[str, Any], seed: int, dtype: Dtype) -> dict[str, Any]:
    """Draws the leaves that are None; XLA drops the computation of all the others."""
    new = [path for path, leaf in params.items() if leaf is None]
    if new:

        def draw(key: jax.Array) -> dict[str, jax.Array]:
            every = flatten(model.init(key, **dummy_inputs())["params"])
            return {path: every[path].astype(dtype) for path in new}

        params = {**params, **jax.jit(draw)(jax.random.key(seed))}
    return unflatten(params)


class Tensors:
    """The tensors of a checkpoint's safetensors file, by today's names without the family's prefix; read one by one."""

    def __init__(self, folder: Path, names: Names):
        from safetensors import SafetensorError, safe_open

        self.file, self.names = folder / "model.safetensors", names
        if not self.file.is_file():
            raise TlxError(f"{folder} holds no model.safetensors; save it again with transformers, in one file.")
        try:
            self.handle = safe_open(self.file, framework="numpy")
        except (SafetensorError, OSError) as error:
            raise TlxError(f"{self.file} is not a whole safetensors file: {error}.") from None
        stored = {names.today(name): name for name in self.handle.keys()}  # noqa: SIM118 (no dict)
        self.files = {name.removeprefix(names.prefix): as_stored for name, as_stored in stored.items()}
        if twice := sorted(set(self.handle.keys()) - set(self.files.values())):
            raise TlxError(f"{self.file} holds twice, under an older or another name: {listed(twice)}.")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self.handle.get_slice(self.files[name]).get_shape())

    def load(
        self, target: Any, initialise: Sequence[str], ignore: Sequence[str], own_heads: bool, dtype: Dtype
    ) -> dict[str, Any]:
        """Arrays by path for every leaf of `target`, None where it is to be drawn anew."""
        loaded: dict[str, Any] = {}
        missing, reshaped, used = [], [], set()
        for path, leaf in flatten(target).items():
            fresh = any(matches(selector, path) for selector in initialise)
            new_head = path.startswith("heads/") and not own_heads
            name, transpose = ("", False) if new_head else self.names.tensor_of(path)
            found = self.shape(name) if name in self.files else None
            expected = leaf.shape[::-1] if transpose else leaf.shape
            used.add(name)
            if found == expected:
                array = self.handle.get_tensor(self.files[name])
                loaded[path] = jnp.asarray((array.T if transpose else array), dtype)
            elif fresh:
                loaded[path] = None
            elif found is None:
                missing.append(name)
            else:
                reshaped.append(f"{name} {found} (expected {expected})")
        mine = self.names.skipped if own_heads else f"{self.names.skipped}|{self.names.head_tensors}"
        left = [name for name in sorted(self.files) if name not in used and not re.fullmatch(mine, name)]
        left = [name for name in left if not any(re.fullmatch(pattern, name) for pattern in ignore)]
        self._complain(missing, left, reshaped)
        return loaded

    def _complain(self, missing: list[str], left: list[str], reshaped: list[str]) -> None:
        found = [
            f"{what} {listed(names, 40)}"
            for what, names in (("missing:", missing), ("left over:", left), ("of another shape:", reshaped))
            if names
        ]
        if found:
            raise TlxError(
                f"{self.file} does not fit this model; {'; '.join(found)}. Name what may be drawn anew with "
                "initialise=… ('pooler', 'heads', 'all' or a regex on paths) and what may be left over with ignore=…."
            )


def random_params(model: Model, seed: int, param_dtype: Dtype = jnp.float32) -> dict[str, Any]:
    """Parameters drawn as the reference draws them: N(0, initializer_range²), biases 0, layer norms 1 and 0."""
    return _with_new(model, dict.fromkeys(flatten(abstract_params(model))), seed, param_dtype)
