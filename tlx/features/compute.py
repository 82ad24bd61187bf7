"""Features of a whole set: each example once, texts without their padding."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx.data.examples import Batches, ExampleSet
from tlx.data.plan import LENGTH_BUCKETS, EvaluationPlan
from tlx.features.spec import FeatureSpec, below, read
from tlx.models.model import Model
from tlx.parallel.layout import Layout as Spread
from tlx.params.paths import flatten

INPUT_FIELDS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


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
class Layout:
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
      model, params: heads are not asked. params: where `spread` has them, if it is given.
      prepare: `(batch, None) -> (what the model takes, batch)`.
      cut: resolved.
      batch_size: examples a pass. ladder: lengths to which texts are padded.
      spread: the layout of a batch; its devices share it. None: one device.
    """

    def __init__(
        self,
        model: Model,
        params: Any,
        prepare: Any,
        spec: FeatureSpec,
        *,
        batch_size: int = 64,
        length_buckets: Sequence[int] = LENGTH_BUCKETS,
        spread: Spread | None = None,
    ):
        self.model, self.params, self.spec = model, params, spec
        self.batch_size, self.length_buckets, self.spread = batch_size, tuple(length_buckets), spread
        self._forward = _reading(model, prepare, spec)

    @functools.cached_property
    def weights(self) -> str:
        """SHA-256 of the parameters that the cut reads, with their paths, dtypes and shapes."""
        wanted, found = below(self.model, self.spec), hashlib.sha256()
        for path, leaf in sorted(flatten(self.params).items()):
            if path in wanted:
                array = np.asarray(leaf)
                found.update(f"{path} {array.dtype} {array.shape}\n".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def layout(self, examples: ExampleSet) -> Layout:
        """Shape and dtype; nothing is computed."""
        batch = self._batches(examples)[0]
        one = jax.eval_shape(self._forward, self.params, _inputs(batch))
        if self.spec.pooling is not None:
            return Layout((len(examples), *one.shape[1:]), one.dtype, None)
        lengths = examples.lengths if "input_ids" in batch else np.full(len(examples), one.shape[1])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Layout((int(offsets[-1]), one.shape[2]), one.dtype, offsets)

    def fill(self, examples: ExampleSet, values: np.ndarray, offsets: np.ndarray | None) -> None:
        """Writes into `values`, an array of the layout's shape and dtype; a pass runs while the last one is stored."""
        batches = self._batches(examples)
        pending: list[tuple[np.ndarray, jax.Array]] = []
        for step in range(len(batches)):
            inputs = _inputs(batches[step])
            inputs = jax.device_put(inputs) if self.spread is None else self.spread.put_batch(inputs)
            pending.append((batches.rows(step), self._forward(self.params, inputs)))
            if len(pending) > 1:
                self._keep(values, offsets, *pending.pop(0))
        for rows, found in pending:
            self._keep(values, offsets, rows, found)

    def __call__(self, examples: ExampleSet) -> FeatureSet:
        """In memory."""
        layout = self.layout(examples)
        values = np.empty(layout.shape, layout.dtype)
        self.fill(examples, values, layout.offsets)
        return FeatureSet(values, layout.offsets)

    def _keep(self, values: np.ndarray, offsets: np.ndarray | None, rows: np.ndarray, found: jax.Array) -> None:
        fetched = np.asarray(found if self.spread is None else self.spread.gather(found))
        if offsets is None:
            values[rows[rows >= 0]] = fetched[rows >= 0]
            return
        for i in np.flatnonzero(rows >= 0):
            start, stop = offsets[rows[i]], offsets[rows[i] + 1]
            values[start:stop] = fetched[i, : stop - start]

    def _batches(self, examples: ExampleSet) -> Batches:
        plan = EvaluationPlan(examples.lengths, self.batch_size, self.length_buckets)
        if self.spread is None:
            return Batches(examples, plan, plan.steps_per_epoch)
        return Batches(examples, plan, plan.steps_per_epoch, self.spread.size, self.spread.rows)


@functools.lru_cache(maxsize=8)
def _reading(model: Model, prepare: Any, spec: FeatureSpec) -> Any:
    """Compiled once, however many sets are read."""
    return jax.jit(lambda params, batch: read(model, params, prepare(batch, None)[0], spec))


def _inputs(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: batch[name] for name in INPUT_FIELDS if name in batch}
