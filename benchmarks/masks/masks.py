"""Dropout masks of a MiniLM step: tlx's hash beside JAX's generators.

    python benchmarks/masks/masks.py --workdir=runs/masks

writes a table: milliseconds of all masks of one step of MiniLM at 32 x 128 on this machine (median of the repetitions,
which take turns), seconds to trace and compile them, and the operations and bytes of the program lowered for CUDA and
TPU, counted before XLA's optimizations. There `rbg` and `unsafe_rbg` are `rng_bit_generator`, whose inside is not
counted.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.export
import jax.numpy as jnp
from common import arguments, publish

from tlx.models.layers import keep_mask

RATE, REPETITIONS = 0.1, 9
BLOCKS, BATCH, LENGTH, HIDDEN, HEADS = 6, 32, 128, 384, 12
# Embeddings; then in each block the attention weights and the outputs of both halves.
SHAPES = ((BATCH, LENGTH, HIDDEN), *((BATCH, HEADS, LENGTH, LENGTH), *((BATCH, LENGTH, HIDDEN),) * 2) * BLOCKS)
TENSOR = re.compile(r"tensor<((?:\d+x)*)(i1|[uisf]+i?(\d+))>")


def masks_by(name: str) -> tuple[Callable[[Any], Any], Any]:
    """A function from a key to the dropped arrays of a step, and a key; each mask is used once, as in a model."""
    key = jax.random.key(0, impl=None if name == "hash" else name)

    def dropped(key: Any, arrays: Any) -> Any:
        out = []
        for index, x in enumerate(arrays):
            own = jax.random.fold_in(key, index)
            keep = keep_mask(own, RATE, x.shape)[0] if name == "hash" else jax.random.bernoulli(own, 1 - RATE, x.shape)
            out.append(jnp.where(keep, x / (1 - RATE), 0))
        return out

    return dropped, key


def lowered(function: Any, arguments: Any, platform: str) -> tuple[int, float]:
    """Arithmetic operations on arrays, and mebibytes that they write, if each wrote its result."""
    text = str(jax.export.export(jax.jit(function), platforms=(platform,))(*arguments).mlir_module())
    operations, written = 0, 0.0
    for line in text.splitlines():
        if " = stablehlo." not in line or "stablehlo.constant" in line or not (found := TENSOR.findall(line)):
            continue
        shape, _, bits = found[-1]
        size = 1
        for part in shape.split("x")[:-1]:
            size *= int(part)
        operations, written = operations + size, written + size * int(bits or 8) / 8
    return operations, written / 2**20


def main() -> None:
    """Measures, prints and writes the table."""
    workdir = arguments(__doc__, "runs/masks").parse_args().workdir
    arrays = [jnp.ones(shape, jnp.float32) for shape in SHAPES]
    compiled, seconds, counts = {}, {}, {}
    for name in ("hash", "threefry2x32", "rbg", "unsafe_rbg"):
        function, key = masks_by(name)
        began = time.perf_counter()
        program = jax.jit(function).lower(key, arrays).compile()
        seconds[name] = time.perf_counter() - began
        compiled[name] = (program, key)
        counts[name] = [lowered(function, (key, arrays), platform) for platform in ("cuda", "tpu")]
    plain = jax.jit(lambda arrays: [x / (1 - RATE) for x in arrays])
    times: dict[str, list[float]] = {name: [] for name in ("no mask", *compiled)}
    for _ in range(REPETITIONS + 1):  # the first is discarded
        for name in times:
            began = time.perf_counter()
            jax.block_until_ready(plain(arrays) if name == "no mask" else compiled[name][0](compiled[name][1], arrays))
            times[name].append(1000 * (time.perf_counter() - began))
    header = ("generator", "ms a step", "compile, s", "cuda: operations, M", "MiB", "tpu: operations, M", "MiB")
    table = []
    for name, values in times.items():
        rest = [f"{seconds[name]:.2f}"] if name in seconds else [""]
        cells = [each for n, mib in counts.get(name, []) for each in (f"{n / 1e6:.0f}", f"{mib:.0f}")] or [""] * 4
        table.append((name, f"{statistics.median(values[1:]):.1f}", *rest, *cells))
    publish(workdir, "dropout masks", header, table)


if __name__ == "__main__":
    main()
