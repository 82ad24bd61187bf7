"""Features of a whole set: each example once, texts without their padding."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tlx.data.examples import ExampleSet
from tlx.features.spec import FeatureSpec, below, read
from tlx.features.whole_set import in_batches, inputs_of, map_batches, store
from tlx.modalities.api import Modality, Prepare
from tlx.models.forward import ModelState, Variables
from tlx.models.model import Model
from tlx.parallel.layout import Layout
from tlx.params.paths import flatten


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """What a cut gives of a set, in its order.

    values: pooled (examples, vectors, hidden), else (tokens, hidden), all examples end to end. offsets: int64
    (examples + 1,), where each begins; None of pooled ones.
    """

    values: np.ndarray
    offsets: np.ndarray | None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1


@dataclasses.dataclass(frozen=True)
class FeatureShape:
    """Of a `FeatureSet` that is still to be computed."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offsets: np.ndarray | None

    @property
    def bytes(self) -> int:
        """Of the values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Extractor:
    """Reads sets at a cut.

    Args:
      model, params: heads are not asked. params: where `layout` has them, if it is given.
      model_state: of a model that has one, on the same devices.
      modality: what of a batch the model takes.
      spec: resolved.
      batch_size: examples a pass.
      length_buckets: lengths to which examples are padded; None: the modality's.
      layout: of a batch, whose devices share it; None: one device.
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
    ):
        self.model, self.params, self.modality, self.spec = model, params, modality, spec
        self.model_state = model_state or {}
        self.length_buckets = modality.length_buckets if length_buckets is None else tuple(length_buckets)
        self.batch_size, self.layout = batch_size, layout
        self._forward = _reading(model, modality.prepare, spec)

    @functools.cached_property
    def weights(self) -> str:
        """SHA-256 of the parameters that the cut reads and of the model state, with paths, dtypes and shapes."""
        wanted, found, state = below(self.model, self.spec), hashlib.sha256(), flatten(self.model_state)
        for path, leaf in (*sorted(flatten(self.params).items()), *sorted(state.items())):
            if path in wanted or path in state:
                array = np.asarray(leaf)
                found.update(f"{path} {array.dtype} {array.shape}\n".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def shape_of(self, examples: ExampleSet) -> FeatureShape:
        """Shape and dtype; nothing is computed."""
        batch = in_batches(examples, self.batch_size, self.length_buckets, self.layout)[0]
        inputs = inputs_of(batch, self.modality.fields)
        one = jax.eval_shape(self._forward, self.params, self.model_state, inputs)
        if self.spec.pooling is not None:
            return FeatureShape((len(examples), *one.shape[1:]), one.dtype, None)
        lengths = examples.lengths if self.modality.has_lengths else np.full(len(examples), one.shape[1])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return FeatureShape((int(offsets[-1]), one.shape[2]), one.dtype, offsets)

    def fill(self, examples: ExampleSet, values: np.ndarray, offsets: np.ndarray | None) -> None:
        """Writes into `values`, an array of the layout's shape and dtype; a pass runs while the last one is stored."""
        batches = in_batches(examples, self.batch_size, self.length_buckets, self.layout)
        variables = Variables(self.params, self.model_state)
        for rows, found in map_batches(self._forward, variables, batches, self.modality.fields, self.layout):
            store(values, offsets, rows, found)

    def __call__(self, examples: ExampleSet) -> FeatureSet:
        """In memory."""
        layout = self.shape_of(examples)
        values = np.empty(layout.shape, layout.dtype)
        self.fill(examples, values, layout.offsets)
        return FeatureSet(values, layout.offsets)


@functools.lru_cache(maxsize=8)
def _reading(model: Model, prepare: Prepare, spec: FeatureSpec) -> Any:
    """Compiled once, however many sets are read."""
    return jax.jit(lambda params, state, batch: read(model, params, prepare(batch, None)[0], spec, state))
