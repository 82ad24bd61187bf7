"""Checkpoints to try: the reference ones with something changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.models.reference import THIRD_PARTY

Tensors = dict[str, np.ndarray]


def stored(variant: str) -> Tensors:
    """The tensors of a reference checkpoint, by their names in the file."""
    return load_file(THIRD_PARTY / "bert" / variant / "model.safetensors")


def checkpoint(folder: Path, variant: str, change: Callable[[Tensors], Tensors] = dict, **config: Any) -> Path:
    """A reference checkpoint with other tensors and other settings, in `folder`; a setting that is ... is left out."""
    settings = json.loads((THIRD_PARTY / "bert" / variant / "config.json").read_text(encoding="utf-8")) | config
    settings = {key: value for key, value in settings.items() if value is not ...}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(change(stored(variant)), folder / "model.safetensors")
    return folder


def expected_leaf(tensors: Tensors, path: str, prefix: str = "") -> np.ndarray:
    """What a parameter should be, by the naming that the two frameworks have in common."""
    if path.startswith("heads/default/output/"):
        module, kind = "classifier", path.rsplit("/", 1)[1]
    else:
        module, kind = path.removeprefix("backbone/").rsplit("/", 1)
        module = prefix + module.replace("/", ".")
    tensor = tensors[f"{module}.{'bias' if kind == 'bias' else 'weight'}"]
    return tensor.T if kind == "kernel" else tensor
