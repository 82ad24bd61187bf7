"""Trains all steps of a run in one compiled program, on a data set that fits into the device's memory."""

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
    """Returns the parameters after `len(rows)` steps. To be jitted; it does not evaluate or save.

    Args:
      method: a method with one stream, `train`, and one player, `model`.
      optimizer: the optimizer of that player.
      player_of: the player of each path; None if it is frozen.
      params: the initial parameters.
      fields: the fields of all examples by name, each of shape (examples, …).
      rows: integers (steps, batch), the indices of the examples of each step; -1 is padding.
      key: random key of the run.
      clip: largest global norm of the gradient, as in `make_train_step`.
    """
    step = make_train_step(method, {"model": optimizer}, player_of, clip=clip)

    def one_step(state: Any, indices: jax.Array) -> tuple[Any, None]:
        batch = {name: field[indices] for name, field in fields.items()}
        batch |= {"valid": indices >= 0, "example_id": indices}
        return step(state, {"train": batch}, key)[0], None

    initial = init_state(params, player_of, {"model": optimizer}, {})
    return jax.lax.scan(one_step, initial, jnp.asarray(rows))[0].params


def rows_of_steps(rows: np.ndarray, steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Distributes rows over steps in a random order.

    Args:
      rows: integers (n,), the indices of the training examples.
      steps: number of steps.
      batch_size: number of examples of a step.
      seed: seed of the order.

    Returns:
      int64 (steps, batch_size); -1 is padding of an epoch's last batch.
    """
    plan = TrainingPlan(np.ones(len(rows), np.int64), batch_size, seed, (1,))
    positions = np.stack([plan.batch(step).rows for step in range(steps)])
    return np.where(positions >= 0, rows[positions], -1)
