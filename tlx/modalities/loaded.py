"""The public way in and out: `tlx.load_pretrained` and `tlx.save_pretrained`."""

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

    model: the linen module; `model.apply({"params": params}, **inputs)` takes Hugging Face's input names as NumPy or
      JAX arrays, `output_hidden_states=` and `output_attentions=`, and returns `last_hidden_state`, `pooler_output`,
      `hidden_states`, `attentions` and `logits[head]`.
    params: `{"backbone": …, "heads": {name: …}}`.
    config: the backbone's, under Hugging Face's names. folder: where it was read from.
    """

    model: Model
    params: dict[str, Any]
    config: Any
    folder: Path

    @functools.cached_property
    def modality(self) -> Modality:
        """What reads the checkpoint's inputs."""
        return open_modality(self.folder)

    @property
    def preprocessor(self) -> Any:
        """The checkpoint's tokenizer or image processor: `preprocessor.inputs(texts)` or `inputs(images)` is what the
        model takes."""
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
      heads: None takes the checkpoint's own classifier under the name `default` (without one, `logits == {}`); a number
        makes a new classification head `default`; a mapping makes new heads by name.
      revision: a branch, tag or commit of a hub id.
      initialise: selectors of what may start anew where the file lacks it or has another shape: `pooler`, `heads`,
        `all` or a regex on the whole path. Heads given by the caller count as named.
      seed: of what starts anew.
      dtype: of the parameters, and so of the computation: float32, float64 (where JAX's x64 is on), float16, bfloat16.

    Raises:
      TlxError: no such checkpoint; a family or setting that tlx lacks; missing, extra or reshaped tensors, all by name.
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
    """Writes a folder that transformers opens, no key missing or unexpected: weights, `config.json`, tokenizer.

    Args:
      directory: made, or replaced if it is an earlier export; all or nothing is written.
      loaded: as `load_pretrained` gives it.
      params: to write in place of `loaded.params`.
      format: `safetensors`, or `msgpack` for transformers up to 4.57 (Flax).
      max_shard_bytes: weights beyond it are spread over several files, with an index.

    Raises:
      TlxError: something that Hugging Face cannot express (several heads, a pooling its class lacks).
    """
    return write_folder(
        directory, loaded.model, loaded.params if params is None else params,
        tokenizer_from=loaded.folder, format=format, max_shard_bytes=max_shard_bytes,
    )  # fmt: skip
