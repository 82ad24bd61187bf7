"""A function over a whole set, against the examples one by one."""

import jax
import numpy as np
import pytest

from tlx.data.examples import Examples
from tlx.features.whole_set import in_batches, map_batches, store
from tlx.models.forward import Variables
from tlx.parallel.layout import make_layout

LENGTHS = np.random.default_rng(0).integers(1, 20, 23)
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
IDS = np.random.default_rng(1).integers(1, 90, OFFSETS[-1], np.int32)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_example_in_its_place(batch_size: int, sharded: bool) -> None:
    """Squares of ids, and their sum; what stands at padding is 7², and must come from no example."""
    examples = Examples(IDS, np.zeros_like(IDS), OFFSETS, {}, np.arange(23), 7)
    layout = make_layout(1) if sharded else None

    @jax.jit
    def squares(power: int, model_state: dict, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        found = inputs["input_ids"] ** power
        return {"each": found, "sum": (found * inputs["attention_mask"]).sum(1)}

    each, total = np.zeros(len(IDS), np.int32), np.zeros(23, np.int32)
    batches, asked = in_batches(examples, batch_size, layout=layout), []
    for rows, found in map_batches(squares, Variables(2), batches, ("input_ids", "attention_mask"), layout):
        asked += rows[rows >= 0].tolist()
        store(each, OFFSETS, rows, found["each"])
        store(total, None, rows, found["sum"])
    assert sorted(asked) == list(range(23))
    np.testing.assert_array_equal(each, IDS**2)
    np.testing.assert_array_equal(total, np.add.reduceat(IDS**2, OFFSETS[:-1]))
