"""Training steps of tlx in its own process: python ours.py SHAPE STRATEGY ROWS.

After a warm-up it runs `process.answer_turns`.
"""

# ruff: noqa: E402
import sys
import time
from pathlib import Path

from tlx.allocator import keep_memory

keep_memory()  # as the scripts and commands do

import jax
import jax.numpy as jnp
from arms import SHAPES, arm, step_setup

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import answer_turns

from tlx.cli.launch import configure_jax
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params


def main(shape: str, strategy: str, rows: int) -> None:
    """Runs steps until the input ends."""
    configure_jax()
    config, _, length = SHAPES[shape]
    model, rules = arm(config, strategy)
    setup = step_setup(model, rules, rows, length)
    state, key = jax.jit(setup.begin)(random_params(model, 0)), jax.random.key(0)
    made = {name: jnp.ones(field.shape, field.dtype) for name, field in setup.batch.items()}
    step = jax.jit(setup.step, donate_argnums=0)

    def steps(count: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(count):
            state, metrics = step(state, {"train": made}, key)
        assert jnp.isfinite(metrics["loss"])
        return time.perf_counter() - started

    steps(2)
    trainable = sum(leaf.size for path, leaf in flatten(state.params).items() if setup.player_of[path])
    answer_turns(trainable, steps)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
