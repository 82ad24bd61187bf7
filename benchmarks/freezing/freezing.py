"""Operations and bytes of a compiled training step with frozen parameters, compared with the number needed.

    python freezing.py SHAPE STRATEGY RESULT

SHAPE is BERT-base (32 texts of 128 tokens) or ViT-B/16 (32 images), with AdamW and no dropout; nothing is run and no
weights are read. It fails if a check of `broken` does. configs/studies/freezing.py has all arms.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from arms import CLASSES, RANK, SHAPES, arm, step_setup
from count import expected, product_flops

from tlx.errors import TlxError, one_sentence
from tlx.methods.api import Carried, Context
from tlx.models.model import Model
from tlx.params.paths import flatten, map_with_path
from tlx.params.rules import Rules
from tlx.pretrained.load import abstract_params
from tlx.recipes.run_directory import write_json
from tlx.training import gradient
from tlx.training.state import leaves_of


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step.

    Attributes:
      flops: XLA's count.
      products: operations of matrix products, from the program's text.
      temporary: bytes.
      gradients: bytes.
      moments: bytes.
    """

    flops: float
    products: int
    temporary: int
    gradients: int
    moments: int


def main(shape: str, strategy: str, result: str) -> None:
    """Writes the measures of one arm as metrics."""
    config, rows, length = SHAPES[shape]
    found = measure(config, rows, length, strategy)
    if failed := broken(found):
        raise TlxError(f"{shape}, {strategy}: {'; '.join(failed)} does not hold: {found}.")
    size = int(found.pop("trained"))
    write_json(Path(result), {"metrics": found, "trainable_parameters": size})


def measure(config: Any, rows: int, length: int, strategy: str) -> dict[str, float]:
    """Measures one arm: operations in units of those needed, bytes in units of the trained parameters' bytes."""
    model, rules = arm(config, strategy)
    player_of = step_setup(model, rules, rows, length).player_of
    learning = {path: leaf for path, leaf in flatten(abstract_params(model)).items() if player_of[path]}
    size = sum(int(np.prod(leaf.shape)) for leaf in learning.values())
    rank = RANK if strategy.startswith("LoRA") else 0
    needed = sum(expected(config, rows, length, CLASSES, learning, rank))
    bare = compiled(model, rules, rows, length)
    return {
        "trained": size,
        "GFLOPs needed": needed / 1e9,
        "products to needed": bare.products / needed,
        "all operations to needed": bare.flops / needed,
        "gradient bytes to trained": bare.gradients / (4 * size),
        "optimizer bytes to trained": bare.moments / (4 * size),
        "temporary MB": bare.temporary / 1e6,
        "extras, operations a parameter": extras(model, rules, size),
    }


def broken(found: Mapping[str, float]) -> list[str]:
    """The checks that an arm fails."""
    checks = {
        "all operations within 5 %": abs(found["all operations to needed"] - 1) <= 0.05,
        "products as needed": abs(found["products to needed"] - 1) <= 0.001,
        "gradients of trained parameters only": found["gradient bytes to trained"] == 1,
        "two moments of trained parameters only": found["optimizer bytes to trained"] == 2,
        "extras at most 20 operations per parameter": found["extras, operations a parameter"] <= 20,
    }
    return [name for name, holds in checks.items() if not holds]


def extras(model: Model, rules: Rules, size: int) -> float:
    """Operations per parameter added by clipping, norm logging, accumulation over two micro-batches and an average.

    They are measured in a step whose loss is the sum of the trained parameters (accumulation computes it twice, two
    operations). In the step of a whole model they could not be seen: XLA's fusion of elementwise operations changes its
    count by a thousandth with any change of the program.
    """
    with unrolled():
        least = compiled(model, rules, 2, 2, bare=True)
        more = compiled(model, rules, 2, 2, bare=True, accumulate=2, clip=1.0, average=True)
    return (more.flops - least.flops) / size


def compiled(model: Model, rules: Rules, rows: int, length: int, **extra: Any) -> Compiled:
    """Compiles a training step of this model for this machine. extra: passed to `step_setup`."""
    setup = step_setup(model, rules, rows, length, **extra)
    params = abstract_params(model)
    state = jax.eval_shape(setup.begin, params)
    done = jax.jit(setup.step, donate_argnums=0).lower(state, {"train": setup.batch}, jax.random.key(0)).compile()
    cost, memory = done.cost_analysis(), done.memory_analysis()
    moments = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    own = leaves_of(params, setup.player_of, ("model",))
    fixed = map_with_path(lambda path, leaf: None if setup.player_of[path] else leaf, params)
    once = {"train": {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in setup.batch.items()}}
    context = Context(jax.random.key(0), jnp.zeros((), jnp.int32), jnp.zeros(()))
    slopes = jax.eval_shape(
        lambda *args: gradient.differentiate(setup.method.updates[0], *args, Carried({}), context), own, fixed, once
    ).gradient
    gradients = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(slopes))
    return Compiled(cost["flops"], product_flops(done.as_text()), memory.temp_size_in_bytes, gradients, moments)


def unrolled() -> Any:
    """Unrolls the loop over micro-batches, because XLA counts the body of a loop once."""
    return mock.patch.object(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))


if __name__ == "__main__":
    with one_sentence():
        main(*sys.argv[1:])
