"""A whole run in one dispatch, over a set small enough to lie on the device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx.data.plan import TrainingPlan
from tlx.methods.api import Method
from tlx.training.state import PlayerOf, init_state
from tlx.training.step import make_train_step


def train_on_device(
    method: Method,
    optimizer: optax.GradientTransformation,
    player_of: PlayerOf,
    params: Any,
    fields: Mapping[str, jax.Array],
    rows: jax.Array,
    key: jax.Array,
    clip: float | None = 1.0,
) -> Any:
    """The parameters after `len(rows)` steps. To be jitted; neither evaluates nor saves.

    Args:
      method: of one stream, `train`, and one player, `model`.
      optimizer: of that player.
      owner: whose each path is.
      params: to begin with.
      fields: of all examples, each (examples, …).
      rows: integers (steps, batch): the examples of each step; -1 is padding.
      key: of the run.
      clip: as of `make_train_step`.
    """
    step = make_train_step(method, {"model": optimizer}, player_of, clip=clip)

    def one(state: Any, chosen: jax.Array) -> tuple[Any, None]:
        batch = {name: field[chosen] for name, field in fields.items()}
        batch |= {"valid": chosen >= 0, "example_id": chosen}
        return step(state, {"train": batch}, key)[0], None

    begun = init_state(params, player_of, {"model": optimizer}, {})
    return jax.lax.scan(one, begun, jnp.asarray(rows))[0].params


def rows_of_steps(rows: np.ndarray, steps: int, batch_size: int, seed: int) -> np.ndarray:
    """int64 (steps, batch_size): which of these `rows` each step learns from, in an order by the seed; -1 where an
    epoch's last batch is short."""
    plan = TrainingPlan(np.ones(len(rows), np.int64), batch_size, seed, (1,))
    chosen = np.stack([plan.batch(step).rows for step in range(steps)])
    return np.where(chosen >= 0, rows[chosen], -1)
