"""How a training step's seconds and temporary memory grow with length, batch, depth and what is trained.

    python benchmarks/growth/growth.py --workdir=runs/growth      # the same command goes on

MiniLM's width, AdamW, no dropout; 8 texts of 128 tokens and 6 blocks unless the row varies it. Each point is a process,
whose seconds are the median of its steps. The exponent p is that of the least-squares line of log(value) over log(n),
value ~ n^p. What is trained is counted in blocks from the top, with the line `constant + slope · blocks`.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("", "freezing"))

from common import arguments, found_by, kept, publish


@dataclasses.dataclass(frozen=True)
class Point:
    """Sizes of a step; `trained` is the number of blocks from the top that learn, -1 all parameters."""

    length: int = 128
    batch: int = 8
    depth: int = 6
    trained: int = -1


VARIED = {
    "length": (64, 128, 256, 512), "batch": (4, 8, 16, 32), "depth": (2, 6, 12, 24), "trained": (0, 1, 2, 4, 6),
}  # fmt: skip
HEADER = ("varied", "values", "ms a step", "exponent of the time", "temporary MB", "exponent of the memory")


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/growth")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(Point(**json.loads(options.child[0])), int(options.child[1]))))
        return
    rows = []
    for name, values in VARIED.items():
        found = []
        for value in values:
            point = dataclasses.asdict(dataclasses.replace(Point(), **{name: value}))
            file = options.workdir / "points" / f"{'-'.join(map(str, point.values()))}.json"
            words = ("--child", json.dumps(point), options.steps)
            found.append(kept(file, lambda words=words: found_by("tlx", Path(__file__), *words)))
        rows.append(cells(name, values, [each["ms"] for each in found], [each["temporary"] / 1e6 for each in found]))
    publish(options.workdir, "growth of a step", HEADER, rows)


def cells(name: str, values: tuple[int, ...], times: list[float], sizes: list[float]) -> tuple[str, ...]:
    """A row of the table."""
    label = "blocks that are trained, from the top" if name == "trained" else name
    fits = [fitted(name, values, each) for each in (times, sizes)]
    shown = [", ".join(f"{value:,.0f}" for value in each) for each in (times, sizes)]
    return (label, ", ".join(map(str, values)), shown[0], fits[0], shown[1], fits[1])


def fitted(name: str, values: tuple[int, ...], found: list[float]) -> str:
    """The exponent; for what is trained, a line's constant and slope."""
    if name == "trained":
        slope, constant = np.polyfit(values, found, 1)
        return f"{constant:,.0f} + {slope:,.0f} · blocks"
    return f"{np.polyfit(np.log(values), np.log(found), 1)[0]:.2f}"


def measured(point: Point, steps: int) -> dict[str, Any]:
    """Compiles and runs steps in this process."""
    from tlx.allocator import keep_memory

    keep_memory()  # as the scripts and commands do
    import jax
    import jax.numpy as jnp
    from arms import WITHOUT, step_setup

    from tlx.cli.launch import configure_jax
    from tlx.models.bert import BertConfig
    from tlx.models.heads import Head
    from tlx.models.model import build_model
    from tlx.params.paths import flatten
    from tlx.params.shorthand import train_rules
    from tlx.pretrained.load import abstract_params, random_params

    configure_jax()
    sizes: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": point.depth, "intermediate_size": 1536}
    config = BertConfig(**sizes, **WITHOUT)
    model = build_model(config, {"default": Head("classification", 2)})
    blocks = tuple(f"backbone/{path}" for path in config.block_paths[1:])
    chosen = "heads" if point.trained == 0 else f"last:{point.trained}"
    paths = flatten(abstract_params(model))
    rules = () if point.trained < 0 else train_rules(chosen, blocks, paths, kinds=model.backbone.kinds)
    setup = step_setup(model, rules, point.batch, point.length)
    state, key = jax.jit(setup.begin)(random_params(model, 0)), jax.random.key(0)
    batch = {"train": {name: jnp.ones(field.shape, field.dtype) for name, field in setup.batch.items()}}
    step = jax.jit(setup.step, donate_argnums=0).lower(state, batch, key).compile()
    seconds = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch, key))
        seconds.append(time.perf_counter() - began)
    assert jnp.isfinite(metrics["loss"])
    memory: Any = step.memory_analysis()
    return {"ms": 1e3 * statistics.median(seconds[2:]), "temporary": memory.temp_size_in_bytes}


if __name__ == "__main__":
    main()
