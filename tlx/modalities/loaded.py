"""The public functions that load and save checkpoints: `tlx.load_pretrained` and `tlx.save_pretrained`."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from tlx.errors import TlxError, listed
from tlx.modalities.api import Modality
from tlx.modalities.open import open_modality
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import SHARD_BYTES, write_folder

DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory.

    Attributes:
      model: the linen module. `model.apply({"params": params}, **inputs)` takes Hugging Face's input names as NumPy or
        JAX arrays, `output_hidden_states=` and `output_attentions=`, and returns `last_hidden_state`, `pooler_output`,
        `hidden_states`, `attentions` and `logits[head]`.
      params: the parameters, `{"backbone": …, "heads": {name: …}}`.
      config: the backbone's config, whose fields have Hugging Face's names.
      folder: the local folder that the checkpoint was read from.
    """

    model: Model
    params: dict[str, Any]
    config: Any
    folder: Path

    @functools.cached_property
    def modality(self) -> Modality:
        """The modality that encodes inputs for this checkpoint."""
        return open_modality(self.folder)

    @property
    def preprocessor(self) -> Any:
        """The checkpoint's tokenizer or image processor.

        `preprocessor.inputs(texts)`, or `preprocessor.inputs(images)`, returns the inputs of the model.
        """
        return self.modality.preprocessor


def load_pretrained(
    source: str | os.PathLike[str],
    heads: int | Mapping[str, Head] | None = None,
    *,
    revision: str | None = None,
    initialise: Sequence[str] = (),
    seed: int = 0,
    dtype: str = "float32",
) -> Loaded:
    """Loads a published checkpoint.

    Args:
      source: a folder, `package:NAME/FOLDER` for a folder inside an installed package, or a hub id.
      heads: None loads the checkpoint's head under the name `default` (if it has no head, `logits == {}`); a number
        makes a new classification head `default` with that many classes; a mapping makes new heads by name.
      revision: a branch, tag or commit of a hub id.
      initialise: selectors of the parameters that are randomly initialized if the file lacks them or has them in
        another shape: `pooler`, `heads`, `all` or a regex on the whole path. New heads need no selector.
      seed: the seed of the random initialization.
      dtype: the dtype of the parameters and of the computation: float32, float64 (only if JAX's x64 mode is enabled),
        float16 or bfloat16.

    Returns:
      The model, its parameters and its config.

    Raises:
      TlxError: the checkpoint does not exist; tlx does not support its family or one of its settings; tensors are
        missing, unexpected or have another shape (the message lists them).
    """
    if dtype not in DTYPES:
        raise TlxError(f"dtype is {dtype!r}; it is one of {listed(DTYPES)}.")
    folder = resolve(os.fspath(source), revision)
    model, params = from_pretrained(folder, heads, initialise=initialise, seed=seed, param_dtype=jnp.dtype(dtype))
    return Loaded(model, params, model.backbone.config, folder)


def save_pretrained(
    directory: str | os.PathLike[str],
    loaded: Loaded,
    params: Any = None,
    format: str = "safetensors",
    max_shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Writes a folder that transformers opens without missing or unexpected keys.

    The folder holds the weights, `config.json` and the files of the tokenizer or image processor.

    Args:
      directory: the folder to write. It is created, or replaced if it is an earlier export. If an error occurs, nothing
        is written.
      loaded: the checkpoint, as `load_pretrained` returns it.
      params: the parameters to write; None: `loaded.params`.
      format: `safetensors`, or `msgpack` for transformers up to 4.57 (Flax).
      max_shard_bytes: the largest size of one file of weights; larger weights are split over several files with an
        index.

    Returns:
      The path of the folder.

    Raises:
      TlxError: Hugging Face's format cannot express the model (it has several heads, or a pooling that the class in
        transformers lacks).
    """
    return write_folder(
        directory, loaded.model, loaded.params if params is None else params,
        tokenizer_from=loaded.folder, format=format, max_shard_bytes=max_shard_bytes,
    )  # fmt: skip
