"""Computes the features of a whole set: every example once, texts without padding."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tlx.data.examples import ExampleSet
from tlx.data.packing import PackedShape
from tlx.features.spec import FeatureSpec, below, read
from tlx.features.whole_set import in_batches, inputs_of, map_batches, store
from tlx.modalities.api import Modality, Prepare
from tlx.models.forward import ModelState, Variables
from tlx.models.model import Model
from tlx.parallel.layout import Layout
from tlx.params.paths import flatten


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a set, in the order of its examples.

    Attributes:
      values: pooled features (examples, vectors, hidden); without pooling the tokens of all examples one after the
        other, (tokens, hidden).
      offsets: int64 (examples + 1,), where each example's tokens begin; None for pooled features.
    """

    values: np.ndarray
    offsets: np.ndarray | None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1


@dataclasses.dataclass(frozen=True)
class FeatureShape:
    """The shape of a `FeatureSet` before it is computed.

    Attributes:
      shape: the shape of its values.
      dtype: the dtype of its values.
      offsets: its offsets.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offsets: np.ndarray | None

    @property
    def bytes(self) -> int:
        """The size of the values in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Extractor:
    """Computes the features of sets.

    Args:
      model: the model; its heads are not used.
      params: its parameters; with a layout, placed on its devices.
      modality: the modality, which prepares batches for the model.
      spec: the features, with non-negative layers (see `spec.resolved`).
      batch_size: the number of examples in a forward pass.
      length_buckets: the lengths to which examples are padded; None for those of the modality.
      layout: the layout of batches over devices; None for one device.
      model_state: the model state of a model that has one, on the same devices.
      shape: the shape of packed batches, whose rows must be as long as the longest text; None: texts are not packed.
    """

    def __init__(
        self,
        model: Model,
        params: Any,
        modality: Modality,
        spec: FeatureSpec,
        *,
        batch_size: int = 64,
        length_buckets: Sequence[int] | None = None,
        layout: Layout | None = None,
        model_state: ModelState | None = None,
        shape: PackedShape | None = None,
    ):
        self.model, self.params, self.modality, self.spec = model, params, modality, spec
        self.model_state = model_state or {}
        self.length_buckets = modality.length_buckets if length_buckets is None else tuple(length_buckets)
        self.batch_size, self.layout, self.shape = batch_size, layout, shape
        self._forward = _compiled_read(model, modality.prepare, spec)

    @functools.cached_property
    def weights(self) -> str:
        """SHA-256 of the model state and the parameters that the features depend on, with paths, dtypes, shapes."""
        used, digest, state = below(self.model, self.spec), hashlib.sha256(), flatten(self.model_state)
        for path, leaf in (*sorted(flatten(self.params).items()), *sorted(state.items())):
            if path in used or path in state:
                array = np.asarray(leaf if self.layout is None else self.layout.gather(leaf))
                digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def shape_of(self, examples: ExampleSet) -> FeatureShape:
        """Returns the shape and dtype of the features of a set; nothing is computed."""
        batch = in_batches(examples, self.batch_size, self.length_buckets, self.layout, self.shape)[0]
        inputs = inputs_of(batch, self.modality.fields)
        output = jax.eval_shape(self._forward, self.params, self.model_state, inputs)
        if self.spec.pooling is not None:
            return FeatureShape((len(examples), *output.shape[1:]), output.dtype, None)
        lengths = examples.lengths if self.modality.has_lengths else np.full(len(examples), output.shape[1])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return FeatureShape((int(offsets[-1]), output.shape[2]), output.dtype, offsets)

    def fill(self, examples: ExampleSet, values: np.ndarray | None, offsets: np.ndarray | None) -> None:
        """Computes the features of a set and writes them into an array. With several processes, all of them call it.

        Args:
          examples: the set.
          values: the array to write to, of the shape and dtype that `shape_of` returns; None: this process writes none.
          offsets: the offsets that `shape_of` returns.
        """
        batches = in_batches(examples, self.batch_size, self.length_buckets, self.layout, self.shape)
        variables = Variables(self.params, self.model_state)
        for rows, outputs in map_batches(self._forward, variables, batches, self.modality.fields, self.layout):
            if values is not None:
                store(values, offsets, rows, outputs)

    def __call__(self, examples: ExampleSet) -> FeatureSet:
        """Computes the features of a set in memory."""
        shape = self.shape_of(examples)
        values = np.empty(shape.shape, shape.dtype)
        self.fill(examples, values, shape.offsets)
        return FeatureSet(values, shape.offsets)


@functools.lru_cache(maxsize=8)
def _compiled_read(model: Model, prepare: Prepare, spec: FeatureSpec) -> Any:
    """The compiled function that reads a batch; cached, so that it is compiled once for all sets."""
    return jax.jit(lambda params, state, batch: read(model, params, prepare(batch, None)[0], spec, state))
