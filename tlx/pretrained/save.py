"""From a model and its parameters to a folder that transformers opens: config, safetensors, tokenizer."""

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
from tlx.models.model import Model, dummy_inputs
from tlx.params.paths import flatten, unflatten
from tlx.pretrained.formats.write import write_msgpack, write_safetensors
from tlx.pretrained.names import TO_TORCH, names_of
from tlx.pretrained.own_head import PROBLEMS
from tlx.pretrained.tokenizer_files import copy_files, file_names

MARK = "tlx_version"  # stands in the config.json of what was written here
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
    """Writes a folder that transformers opens with `AutoModel…from_pretrained`, no key missing or unexpected.

    Args:
      directory: made, or replaced if it is an earlier export; all or nothing is written.
      model: as `from_pretrained` gives it.
      params: its parameters; active adapters are folded into the kernels.
      tokenizer_from: a folder whose files of a tokenizer or an image processor are copied.
      card: the content of a `README.md`.
      format: `safetensors` (PyTorch's names), or `msgpack` (`flax_model.msgpack`, which transformers reads up to 4.57).
      max_shard_bytes: weights beyond it are spread over several files, with an index.

    Raises:
      TlxError: something that Hugging Face cannot express (several heads, a pooling its class lacks, a model state).
    """
    directory = Path(directory)
    if format not in FORMATS:
        raise TlxError(f"format is {format!r}; tlx writes {listed(FORMATS)}.")
    if max_shard_bytes < 1:
        raise TlxError(f"max_shard_bytes is {max_shard_bytes}; a file holds at least one byte.")
    model, params = merge_lora(model, params)
    _check_whole(model, params)
    config, tensors = hf_config(model), hf_tensors(model, params, flax=format == "msgpack")
    if directory.exists() and not _replaceable(directory):
        raise TlxError(f"{directory} holds something else than an earlier export; name a new folder.")
    if tokenizer_from is not None and not Path(tokenizer_from).is_dir():
        raise TlxError(f"tokenizer_from={os.fspath(tokenizer_from)!r} is no folder.")
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
        partial.chmod(0o755)  # mkdtemp lets nobody else read what it makes
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
    """Refuses parameters that are a part of the model's, or of another model: nothing is left out without a word."""
    variables = abstract_variables(model, dummy_inputs(model))
    if variables.model_state:
        raise TlxError(
            f"this model has {listed(variables.model_state)} beside its parameters, for which the Hugging Face folders "
            f"that tlx writes have no place ({listed(flatten(variables.model_state), 3)}); keep the run directory."
        )
    expected = {path: tuple(leaf.shape) for path, leaf in flatten(variables.params).items()}
    found = {path: tuple(np.shape(leaf)) for path, leaf in flatten(params).items() if not path.startswith("aux/")}
    missing, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = [
        f"{path} {found[path]} (expected {shape})"
        for path, shape in expected.items()
        if found.get(path, shape) != shape
    ]
    problems = [
        f"{what} {len(paths)} of {len(expected)}: {listed(paths, 3)}"
        for what, paths in (("missing", missing), ("not the model's", more), ("of another shape", other))
        if paths
    ]
    if problems:
        hint = "a trainable part is put together with the frozen one by tlx.merge" if missing else "load the model anew"
        raise TlxError(f"params are not this model's parameters ({'; '.join(problems)}); {hint}.")


def _replaceable(directory: Path) -> bool:
    """Whether a folder is empty, or an export of ours and nothing else (a downloaded checkpoint has the same files)."""
    if not directory.is_dir():
        return False
    names = {file.name for file in directory.iterdir() if not WEIGHTS.fullmatch(file.name)}
    if not any(directory.iterdir()):
        return True
    if "config.json" not in names or MARK not in read_json(directory / "config.json", "config of a checkpoint"):
        return False
    return names <= {"config.json", "README.md", *file_names(directory)}


def _tokenizer_class(folder: Path) -> dict[str, Any]:
    """What a checkpoint's `config.json` says of its tokenizer; some checkpoints say it nowhere else."""
    file = folder / "config.json"
    name = read_json(file, "config of a checkpoint").get("tokenizer_class") if file.is_file() else None
    return {"tokenizer_class": name} if isinstance(name, str) else {}


def hf_config(model: Model) -> dict[str, Any]:
    """What `config.json` says of this model."""
    config = model.backbone.config.to_hf()
    head = _only_head(model) if model.heads_by_name else None
    names = names_of(config["model_type"])
    name = names.stem + names.class_of(head)
    facts = {"architectures": [name], MARK: version("tlx"), **config}
    if head is not None and head.kind == "masked_lm":
        return facts if head.tied else {**facts, "tie_word_embeddings": False}
    if head is None or head.kind in OUTPUTS:
        return facts
    labels = head.labels or tuple(f"LABEL_{i}" for i in range(head.outputs))
    problem = {kind: problem for problem, kind in PROBLEMS.items()}.get(head.kind)
    return {
        **facts,
        **({"problem_type": problem} if problem else {}),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def hf_tensors(model: Model, params: Any, flax: bool = False) -> dict[str, np.ndarray]:
    """The parameters under the names and in the shapes that PyTorch has for them; or Flax, its names joined by `/`."""
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
    if head is not None and not head.tied:  # PyTorch's class has a second bias, that is read where it is tied
        own, tied = f"{names.decoder}.bias", names.tied_bias
        own, tied = (name.replace(".", "/") if flax else name for name in (own, tied))
        tensors[tied] = tensors.pop(own) if flax else tensors[own]
    return tensors


def _only_head(model: Model) -> Head:
    names = [name for name, _ in model.heads_by_name]
    if names != ["default"]:
        raise TlxError(f"a Hugging Face folder holds one head, called 'default' here; this model has {listed(names)}.")
    head = model.heads_by_name[0][1]
    fine = {"pooler", "distilled", model.head_settings.pooled_by}  # one that the family lacks was refused before
    if head.kind not in PER_TOKEN and head.pooling not in fine:
        family = names_of(model.backbone.config.model_type)
        by = "class token" if model.head_settings.pooled_by == "cls" else "pooler"
        raise TlxError(
            f"{family.stem}{family.class_of(head)} pools by the {by}; it cannot express pooling={head.pooling!r}."
        )
    return head


def _fold(head: Head, leaves: dict[str, np.ndarray]) -> None:
    """Puts a regression's shift and scale into its weights."""
    kernel, bias = "heads/default/output/kernel", "heads/default/output/bias"
    if head.scale:
        scale = np.asarray(head.scale, leaves[kernel].dtype)
        leaves[kernel], leaves[bias] = leaves[kernel] * scale, leaves[bias] * scale
    if head.shift:
        leaves[bias] = leaves[bias] + np.asarray(head.shift, leaves[bias].dtype)
