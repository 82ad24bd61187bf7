"""`tlx.Features`: a checkpoint as a scikit-learn transformer, so that any of its estimators stands on a backbone."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec, read, resolved
from tlx.features.store import identity, load_or_compute
from tlx.modalities.api import Modality, Settings
from tlx.modalities.loaded import Loaded, load_pretrained
from tlx.modalities.open import open_modality
from tlx.models.forward import ModelState
from tlx.models.model import Model, dummy_inputs


class Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Texts, pairs of texts or images to vectors, float32 (examples, layers · hidden).

    Nothing is fitted but the checkpoint opened: `fit` looks at no example. The parameters are kept as given, so that
    `clone`, `set_params`, a grid and pickle work; the weights are no part of a pickle.

    Args:
      checkpoint: a folder, `package:NAME/FOLDER` or a hub id.
      pooling: `mean`, `cls`, `pooler` or `distilled` (see `tlx.features.spec.Cut`).
      layers: of the hidden states, such as (0, -1), each pooled and put side by side; None: the last hidden state.
      batch_size: examples a pass.
      max_length: tokens to which texts are cut; None: as many as the checkpoint takes.
      cache: a folder where features are kept and found again, across clones and processes; None: none are kept.

    Several backbones are `sklearn.pipeline.FeatureUnion([("a", Features(…)), ("b", Features(…))])`.
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
        """Opens the checkpoint. X, y: not looked at."""
        del X, y
        if self.pooling is None:
            raise TlxError(
                "a transformer gives one vector an example; pooling is 'mean', 'cls', 'pooler', 'distilled'."
            )
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise TlxError(f"batch_size is {self.batch_size!r}; it is a number of examples, at least 1.")
        loaded = _open(str(self.checkpoint))
        spec = resolved(FeatureSpec(tuple(self.layers or ()), self.pooling), loaded.model)
        one = jax.eval_shape(lambda params: read(loaded.model, params, dummy_inputs(loaded.model), spec), loaded.params)
        self._n_features_out = int(np.prod(one.shape[1:]))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """float32 (examples, features).

        X: texts; pairs of texts, as (examples, 2) or a list of pairs; of images paths, encoded bytes or arrays.
        """
        if not hasattr(self, "_n_features_out"):
            raise NotFittedError("this Features is not fitted yet; call fit (on anything) first.")
        loaded = _open(str(self.checkpoint))
        modality = loaded.modality
        if modality.has_lengths and self.max_length is not None:
            modality = _shorter(loaded.folder, self.max_length, loaded.config.max_length)
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
    """float32 (examples, vectors · hidden): what a cut with a pooling makes of examples that a modality encoded.

    model_state: of a model that has one.
    """
    size = 1 << (max(len(examples), 8) - 1).bit_length()  # few examples take a small batch, of few sizes to compile
    extractor = Extractor(
        model, params, modality, resolved(spec, model), batch_size=min(size, batch_size), model_state=model_state
    )
    if cache is None:
        values = extractor(examples).values
    else:
        facts = identity(extractor, examples)
        values = load_or_compute(Path(cache).expanduser().absolute(), facts, extractor, examples).values
    return np.ascontiguousarray(values.reshape(len(examples), -1), np.float32)


def encode(modality: Modality, given: Any) -> ExampleSet:
    """Plain inputs, such as texts, pairs of texts or images, as examples.

    Raises:
      TlxError: one input in place of a list, none at all, or what is no input of this modality.
    """
    if isinstance(given, (str, bytes)):
        raise TlxError("one text or image was given; a list of them is expected.")
    if not len(given):
        raise TlxError("there is nothing to read: 0 examples were given.")
    return modality.encode_inputs(given)


@functools.lru_cache(maxsize=2)
def _open(checkpoint: str) -> Loaded:
    """Kept between `fit`, `transform` and clones."""
    if not checkpoint:
        raise TlxError("Features names no checkpoint (a folder, package:NAME/FOLDER, or a hub id).")
    return load_pretrained(checkpoint, heads={})


@functools.lru_cache(maxsize=4)
def _shorter(folder: Path, max_length: int, most: int) -> Modality:
    if not 3 <= max_length <= most:
        raise TlxError(f"max_length is {max_length}; this checkpoint takes 3 to {most} tokens.")
    return open_modality(folder, Settings(max_length=max_length))
