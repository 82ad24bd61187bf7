"""`tlx.Features`: a pretrained backbone as a scikit-learn transformer."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError

from tlx.adapters.model import merge_lora
from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec, read, resolved
from tlx.features.store import identity, load_or_compute
from tlx.modalities.api import InputSettings, Modality
from tlx.modalities.loaded import Loaded, load_pretrained
from tlx.modalities.open import open_modality
from tlx.models.forward import ModelState
from tlx.models.model import Model, dummy_inputs


class Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from texts, pairs of texts or images to feature vectors, float32.

    `fit` only opens the checkpoint; it does not read any example. `clone`, `set_params`, grid search and pickle work as
    for other estimators; a pickle does not contain the weights. To combine several backbones, use
    `sklearn.pipeline.FeatureUnion([("a", Features(…)), ("b", Features(…))])`.

    Args:
      checkpoint: a folder, `package:NAME/FOLDER` or a hub id.
      pooling: `mean`, `cls`, `pooler` or `distilled` (see `tlx.features.spec.FeatureSpec`).
      layers: the layers to read, such as (0, -1). Each is pooled, and the vectors are concatenated. None for the last
        hidden state.
      batch_size: the number of examples in a forward pass.
      max_length: the number of tokens to which texts are truncated; None for the maximum of the checkpoint.
      cache: a folder in which features are stored and found again, across clones and processes; None to store none.
    """

    def __init__(
        self,
        checkpoint: str = "",
        *,
        pooling: str = "mean",
        layers: Sequence[int] | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
        cache: str | None = None,
    ):
        self.checkpoint, self.pooling, self.layers = checkpoint, pooling, layers
        self.batch_size, self.max_length, self.cache = batch_size, max_length, cache

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Opens the checkpoint.

        Args:
          X: ignored.
          y: ignored.

        Raises:
          TlxError: if the checkpoint cannot be opened or a parameter has a wrong value.
        """
        del X, y
        if self.pooling is None:
            raise TlxError(
                "Features returns one vector for each example; pooling must be 'mean', 'cls', 'pooler' or 'distilled'."
            )
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise TlxError(f"batch_size is {self.batch_size!r}; it must be a number of examples, at least 1.")
        loaded = _open(str(self.checkpoint))
        spec = resolved(FeatureSpec(tuple(self.layers or ()), self.pooling), loaded.model)
        shape = jax.eval_shape(
            lambda params: read(loaded.model, params, dummy_inputs(loaded.model), spec), loaded.params
        )
        self._n_features_out = int(np.prod(shape.shape[1:]))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Computes features, float32 (examples, layers · hidden).

        Args:
          X: texts; pairs of texts as an array (examples, 2) or a list of pairs; or images as paths, encoded bytes or
            arrays.

        Raises:
          NotFittedError: if `fit` has not been called.
          TlxError: if there are no examples, or if they are not valid inputs.
        """
        if not hasattr(self, "_n_features_out"):
            raise NotFittedError("this Features is not fitted yet; call fit first (its arguments are ignored).")
        loaded = _open(str(self.checkpoint))
        modality = loaded.modality
        if modality.has_lengths and self.max_length is not None:
            modality = _with_max_length(loaded.folder, self.max_length, loaded.config.max_length)
        return extract(
            loaded.model, loaded.params, modality, encode(modality, X),
            FeatureSpec(tuple(self.layers or ()), self.pooling), batch_size=self.batch_size, cache=self.cache,
        )  # fmt: skip

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array, tags.no_validation = True, False, True
        tags.requires_fit = True
        return tags


def extract(
    model: Model, params: Any, modality: Modality, examples: ExampleSet, spec: FeatureSpec, *, batch_size: int = 32,
    cache: str | os.PathLike[str] | None = None, model_state: ModelState | None = None,
) -> np.ndarray:  # fmt: skip
    """Computes pooled features of encoded examples, with a cache on disk if requested.

    Args:
      model: the model; its heads are not used. Adapters are merged into the kernels.
      params: its parameters.
      modality: the modality that encoded the examples.
      examples: the encoded examples.
      spec: the features to read; it must have a pooling.
      batch_size: the largest number of examples in a forward pass.
      cache: the folder in which features are stored; None to store none.
      model_state: the model state of a model that has one.

    Returns:
      float32 (examples, vectors · hidden).
    """
    model, params = merge_lora(model, params)
    size = 1 << (max(len(examples), 8) - 1).bit_length()  # small sets use a smaller batch, of few sizes to compile
    extractor = Extractor(
        model, params, modality, resolved(spec, model), batch_size=min(size, batch_size), model_state=model_state
    )
    if cache is None:
        values = extractor(examples).values
    else:
        identifiers = identity(extractor, examples)
        values = load_or_compute(Path(cache).expanduser().absolute(), identifiers, extractor, examples).values
    return np.ascontiguousarray(values.reshape(len(examples), -1), np.float32)


def encode(modality: Modality, inputs: Any) -> ExampleSet:
    """Encodes plain inputs, such as texts, pairs of texts or images, as examples.

    Args:
      modality: the modality of the inputs.
      inputs: a list of inputs.

    Raises:
      TlxError: if `inputs` is a single input instead of a list, or empty, or contains an invalid input.
    """
    if isinstance(inputs, (str, bytes)):
        raise TlxError("found a single text or image; expected a list of them.")
    if not len(inputs):
        raise TlxError("found 0 examples; expected at least one.")
    return modality.encode_inputs(inputs)


@functools.lru_cache(maxsize=2)
def _open(checkpoint: str) -> Loaded:
    """Opens a checkpoint; cached, so that `fit`, `transform` and clones open it once."""
    if not checkpoint:
        raise TlxError("Features has no checkpoint; set it to a folder, package:NAME/FOLDER or a hub id.")
    return load_pretrained(checkpoint, heads={})


@functools.lru_cache(maxsize=4)
def _with_max_length(folder: Path, max_length: int, most: int) -> Modality:
    if not 3 <= max_length <= most:
        raise TlxError(f"max_length is {max_length}; this checkpoint takes 3 to {most} tokens.")
    return open_modality(folder, InputSettings(max_length=max_length))
