"""Saves a model and its parameters as a folder that transformers opens: config, weights, tokenizer."""

import json
import os
import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tlx.adapters.model import merge_lora
from tlx.errors import TlxError, listed
from tlx.files.strict_json import read_json
from tlx.models.forward import abstract_variables
from tlx.models.heads import OUTPUTS, PER_TOKEN, Head
from tlx.models.model import FAMILIES, Model, dummy_inputs
from tlx.params.paths import flatten, unflatten
from tlx.pretrained.checkpoint_head import PROBLEMS
from tlx.pretrained.formats.write import write_msgpack, write_safetensors
from tlx.pretrained.names import TO_TORCH, names_of
from tlx.pretrained.tokenizer_files import copy_files, file_names

MARK = "tlx_version"  # the key in `config.json` that marks a folder as an export of tlx
FORMATS = ("safetensors", "msgpack")
SHARD_BYTES = 5 * 10**9
WEIGHTS = re.compile(r"(model|flax_model)(-\d{5}-of-\d{5})?\.(safetensors|msgpack)(\.index\.json)?")


def write_folder(
    directory: str | os.PathLike[str],
    model: Model,
    params: Any,
    *,
    tokenizer_from: str | os.PathLike[str] | None = None,
    card: str | None = None,
    format: str = "safetensors",
    max_shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Writes a folder that `AutoModel….from_pretrained` opens without missing or unexpected keys.

    Args:
      directory: the folder to write. It is created, or replaced if it is an earlier export. If an error occurs, nothing
        is written.
      model: the model, as `from_pretrained` returns it.
      params: its parameters; active adapters are merged into the kernels.
      tokenizer_from: a folder whose tokenizer or image processor files are copied; None: none are.
      card: the content of `README.md`; None: no such file is written.
      format: `safetensors` (PyTorch's names), or `msgpack` (`flax_model.msgpack`, which transformers reads up to 4.57).
      max_shard_bytes: the largest size of one file of weights; larger weights are split over several files with an
        index.

    Returns:
      The path of the folder.

    Raises:
      TlxError: Hugging Face's format cannot express the model (it has several heads, a pooling that the class in
        transformers lacks, or a model state); `params` are not the model's; the folder holds something else.
    """
    directory = Path(directory)
    if format not in FORMATS:
        raise TlxError(f"format is {format!r}; tlx writes {listed(FORMATS)}.")
    if max_shard_bytes < 1:
        raise TlxError(f"max_shard_bytes is {max_shard_bytes}; a file holds at least one byte.")
    model, params = merge_lora(model, params)
    if (family := model.backbone.config.model_type) in FAMILIES:  # a network of the user's own is in none
        names_of(family)  # raises if the family has no Hugging Face form
    _check_whole(model, params)
    config, tensors = hf_config(model), hf_tensors(model, params, flax=format == "msgpack")
    if directory.exists() and not _replaceable(directory):
        raise TlxError(f"{directory} holds something else than an earlier export; name a new folder.")
    if tokenizer_from is not None and not Path(tokenizer_from).is_dir():
        raise TlxError(f"tokenizer_from={os.fspath(tokenizer_from)!r} is not a folder.")
    if tokenizer_from is not None:
        config |= _tokenizer_class(Path(tokenizer_from))
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    replaced = partial.with_name(partial.name + "-replaced")
    try:
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if format == "msgpack":
            write_msgpack(partial, unflatten(tensors), max_shard_bytes)
        else:
            write_safetensors(partial, tensors, max_shard_bytes)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        if tokenizer_from is not None:
            copy_files(Path(tokenizer_from), partial)
        partial.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        if directory.exists():
            directory.rename(replaced)
        partial.rename(directory)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def _check_whole(model: Model, params: Any) -> None:
    """Checks that `params` has exactly the paths and shapes of the model's parameters.

    Raises:
      TlxError: it has not; or the model has a state beside its parameters, which the format cannot hold.
    """
    variables = abstract_variables(model, lambda: dummy_inputs(model))
    if variables.model_state:
        raise TlxError(
            f"this model has {listed(variables.model_state)} beside its parameters, which the Hugging Face folders "
            f"that tlx writes cannot hold ({listed(flatten(variables.model_state), 3)}); keep the run directory."
        )
    expected = {path: tuple(leaf.shape) for path, leaf in flatten(variables.params).items()}
    shapes = {path: tuple(np.shape(leaf)) for path, leaf in flatten(params).items() if not path.startswith("aux/")}
    missing, unexpected = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    reshaped = [
        f"{path} {shapes[path]} (expected {shape})"
        for path, shape in expected.items()
        if shapes.get(path, shape) != shape
    ]
    problems = [
        f"{what} {len(paths)} of {len(expected)}: {listed(paths, 3)}"
        for what, paths in (("missing", missing), ("not the model's", unexpected), ("of another shape", reshaped))
        if paths
    ]
    if problems:
        hint = "combine a trainable and a frozen part with tlx.merge" if missing else "load the model again"
        raise TlxError(f"params are not this model's parameters ({'; '.join(problems)}); {hint}.")


def _replaceable(directory: Path) -> bool:
    """Returns whether a folder is empty, or holds an export of tlx and nothing else.

    A downloaded checkpoint has the same files, so the mark in `config.json` decides.
    """
    if not directory.is_dir():
        return False
    names = {file.name for file in directory.iterdir() if not WEIGHTS.fullmatch(file.name)}
    if not any(directory.iterdir()):
        return True
    if "config.json" not in names or MARK not in read_json(directory / "config.json", "config of a checkpoint"):
        return False
    return names <= {"config.json", "README.md", *file_names(directory)}


def _tokenizer_class(folder: Path) -> dict[str, Any]:
    """Returns the `tokenizer_class` of a checkpoint's `config.json`; in some checkpoints it is in no other file."""
    file = folder / "config.json"
    name = read_json(file, "config of a checkpoint").get("tokenizer_class") if file.is_file() else None
    return {"tokenizer_class": name} if isinstance(name, str) else {}


def hf_config(model: Model) -> dict[str, Any]:
    """Returns the content of `config.json` for this model."""
    config = model.backbone.config.to_hf()
    head = _only_head(model) if model.heads_by_name else None
    names = names_of(config["model_type"])
    name = names.stem + names.class_of(head)
    content = {"architectures": [name], MARK: version("tlx"), **config}
    if head is not None and head.kind == "masked_lm":
        return content if head.tied else {**content, "tie_word_embeddings": False}
    if head is None or head.kind in OUTPUTS:
        return content
    labels = head.labels or tuple(f"LABEL_{i}" for i in range(head.outputs))
    problem = {kind: problem for problem, kind in PROBLEMS.items()}.get(head.kind)
    return {
        **content,
        **({"problem_type": problem} if problem else {}),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def hf_tensors(model: Model, params: Any, flax: bool = False) -> dict[str, np.ndarray]:
    """Returns the parameters under the names and in the shapes that they have in a file.

    Args:
      model: the model.
      params: its parameters.
      flax: use Flax's names (joined by `/`) and shapes instead of PyTorch's.
    """
    names = names_of(model.backbone.config.model_type)
    prefix = names.prefix if model.heads_by_name else ""
    head = _only_head(model) if model.heads_by_name else None
    leaves = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
    if head is not None:
        _fold(head, leaves)
    tensors = {}
    for path, leaf in leaves.items():
        name, transpose = names.tensor_of(path, names.layers_of(head), flax)
        name = prefix + name if path.startswith("backbone/") else name
        tensors[name.replace(".", "/") if flax else name] = np.ascontiguousarray(
            leaf.transpose(TO_TORCH[leaf.ndim]) if transpose else leaf
        )
    if head is not None and not head.tied:  # PyTorch's class has a second bias, which it uses if the head is tied
        untied, tied = f"{names.decoder}.bias", names.tied_bias
        untied, tied = (name.replace(".", "/") if flax else name for name in (untied, tied))
        tensors[tied] = tensors.pop(untied) if flax else tensors[untied]
    return tensors


def _only_head(model: Model) -> Head:
    names = [name for name, _ in model.heads_by_name]
    if names != ["default"]:
        raise TlxError(f"a Hugging Face folder holds one head, called 'default' here; this model has {listed(names)}.")
    head = model.heads_by_name[0][1]
    # build_model has already refused a pooling that the family lacks
    expressible = {"pooler", "distilled", model.head_settings.pooled_by}
    if head.kind not in PER_TOKEN and head.pooling not in expressible:
        family = names_of(model.backbone.config.model_type)
        pooling = "class token" if model.head_settings.pooled_by == "cls" else "pooler"
        raise TlxError(
            f"{family.stem}{family.class_of(head)} pools by the {pooling}; it cannot express pooling={head.pooling!r}."
        )
    return head


def _fold(head: Head, leaves: dict[str, np.ndarray]) -> None:
    """Multiplies a regression head's weights by its scale and adds its shift to the bias, in place."""
    kernel, bias = "heads/default/output/kernel", "heads/default/output/bias"
    if head.scale:
        scale = np.asarray(head.scale, leaves[kernel].dtype)
        leaves[kernel], leaves[bias] = leaves[kernel] * scale, leaves[bias] * scale
    if head.shift:
        leaves[bias] = leaves[bias] + np.asarray(head.shift, leaves[bias].dtype)
