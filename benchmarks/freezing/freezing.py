"""Operations and bytes of a compiled training step with frozen parameters, compared with the number needed.

    python benchmarks/freezing/freezing.py --workdir=runs/freezing

BERT-base on 32 texts of 128 tokens and ViT-B/16 on 32 images, AdamW, no dropout; nothing is run and no weights are
read. Each row is one file under the workdir; the same command resumes. It fails if a row violates a check of `report`.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from arms import CLASSES, RANK, SHAPES, STRATEGIES, TABLE, arm, step_setup
from count import expected, product_flops

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, kept, publish

from tlx.errors import one_sentence
from tlx.methods.api import Carried, Context
from tlx.models.model import Model
from tlx.params.paths import flatten, map_with_path
from tlx.params.rules import Rules
from tlx.pretrained.load import abstract_params
from tlx.training import gradient
from tlx.training.state import leaves_of

HEADER = (
    "model", "strategy", "trainable", "GFLOPs needed", "products compiled / needed", "all compiled / needed",
    "gradient bytes / trainable", "optimizer bytes / trainable", "temporary MB", "extras, operations a parameter",
)  # fmt: skip


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


def main() -> int:
    """Compiles what is missing, prints and writes the table."""
    workdir = arguments(__doc__, "runs/freezing").parse_args().workdir
    found = {}
    for shape in TABLE:
        config, rows, length = SHAPES[shape]
        for strategy in STRATEGIES:
            file = workdir / f"{shape.replace('/', '_')}-{strategy.replace(' ', '_')}.json"
            found[shape, strategy] = kept(file, functools.partial(measure, config, rows, length, strategy))
    table = [(*name, *cells(row)) for name, row in found.items()]
    publish(workdir, "freezing", HEADER, table)
    return report(found)


def measure(config: Any, rows: int, length: int, strategy: str) -> dict[str, float]:
    """Measures one row."""
    started = time.perf_counter()
    model, rules = arm(config, strategy)
    player_of = step_setup(model, rules, rows, length).player_of
    learning = {path: leaf for path, leaf in flatten(abstract_params(model)).items() if player_of[path]}
    size = sum(int(np.prod(leaf.shape)) for leaf in learning.values())
    rank = RANK if strategy.startswith("LoRA") else 0
    forward, backward = expected(config, rows, length, CLASSES, learning, rank)
    bare = compiled(model, rules, rows, length)
    return {
        "trainable": size,
        "needed": forward + backward,
        "products": bare.products,
        "flops": bare.flops,
        "gradient_bytes": bare.gradients / (4 * size),
        "moment_bytes": bare.moments / (4 * size),
        "temporary": bare.temporary,
        "extras": extras(model, rules, size),
        "seconds": round(time.perf_counter() - started, 1),
    }


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


def cells(row: Mapping[str, float]) -> tuple[str, ...]:
    """The cells of a table row."""
    return (
        f"{row['trainable']:,.0f}", f"{row['needed'] / 1e9:,.1f}", f"{row['products'] / row['needed']:.4f}",
        f"{row['flops'] / row['needed']:.3f}", f"{row['gradient_bytes']:.3f}", f"{row['moment_bytes']:.3f}",
        f"{row['temporary'] / 1e6:,.0f}", f"{row['extras']:.1f}",
    )  # fmt: skip


def report(found: Mapping[tuple[str, str], Mapping[str, float]]) -> int:
    """Prints the checks that fail and returns the exit code."""
    broken = []
    for (shape, strategy), row in found.items():
        checks = {
            "all operations within 5 %": abs(row["flops"] / row["needed"] - 1) <= 0.05,
            "products as needed": abs(row["products"] / row["needed"] - 1) <= 0.001,
            "gradients of trained parameters only": row["gradient_bytes"] == 1,
            "two moments of trained parameters only": row["moment_bytes"] == 2,
            "temporary bytes not above full fine-tuning's": row["temporary"] <= found[shape, "full"]["temporary"],
            "extras at most 20 operations per parameter": row["extras"] <= 20,
        }
        broken += [f"{shape}, {strategy}: {name}" for name, holds in checks.items() if not holds]
    print("\n".join(["FAILED CHECKS", *broken]) if broken else "All checks pass.")
    return int(bool(broken))


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
