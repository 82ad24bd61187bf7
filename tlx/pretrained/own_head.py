"""The masked language modelling head that a checkpoint was pretrained with, for a run that goes on training it."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp

from tlx.models.heads import Head
from tlx.models.model import build_model, config_of
from tlx.pretrained.checkpoint_head import checkpoint_heads
from tlx.pretrained.folder import read_config
from tlx.pretrained.load import abstract_params
from tlx.pretrained.tensors import Tensors


def masked_lm_head(folder: Path) -> Head | None:
    """Returns the masked language modelling head that a checkpoint has; None if it has none.

    Args:
      folder: the checkpoint's folder.

    Raises:
      TlxError: its weights are missing or damaged.
    """
    hf = read_config(folder)
    tensors = Tensors(folder, config_of(folder, hf, {}).model_type)
    if not _has_head(tensors):
        return None
    return checkpoint_heads({**hf, "architectures": [tensors.names.stem + "ForMaskedLM"]}, tensors)["default"]


def masked_lm_params(folder: Path, head: Head, name: str) -> dict[str, Any]:
    """Reads the parameters of the head that `masked_lm_head` returned.

    Args:
      folder: the checkpoint's folder.
      head: the head.
      name: the name that the head has in the model.

    Returns:
      float32 arrays by path, `heads/NAME/…`.

    Raises:
      TlxError: a tensor is missing or has another shape.
    """
    hf = read_config(folder)
    config = config_of(folder, hf, {"default": head})
    tensors = Tensors(folder, config.model_type)
    checkpoint_heads({**hf, "architectures": [tensors.names.stem + "ForMaskedLM"]}, tensors)  # completes what is stored
    target = {"heads": abstract_params(build_model(config, {"default": head}))["heads"]}
    found = tensors.load(target, (), (".*",), head, True, jnp.float32)
    return {f"heads/{name}/{path.removeprefix('heads/default/')}": leaf for path, leaf in found.items()}


def _has_head(tensors: Tensors) -> bool:
    """Whether the file has all layers of the head but the output layer, of which there may be the bias alone."""
    layers = tensors.names.heads.get("ForMaskedLM", {})
    modules = [module for layer, module in layers.items() if layer]
    return bool(modules) and all(f"{module}.bias" in tensors.stored for module in modules)
