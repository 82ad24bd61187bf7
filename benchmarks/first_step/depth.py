"""Seconds to trace, lower and compile a training step against the depth, with blocks traced once and each by itself.

    python benchmarks/first_step/depth.py --workdir=runs/depth      # the same command goes on

MiniLM's width, 32 texts of 64 tokens, all parameters and dropout, AdamW. Each figure is the median of processes that
take turns; each process compiles with an empty and then with a filled cache on disk. "Each by itself" is what tlx does
under an interceptor of linen that it does not know, here one that changes nothing.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("", "freezing"))

from common import arguments, found_by, kept, publish

DEPTHS, BATCH, LENGTH = (6, 12, 24), 32, 64
MODES = {"once": "once", "each": "each by itself"}
STAGES = ("trace", "lower", "compile", "from the cache")
HEADER = ("blocks", "traced", *(f"{stage}, s" for stage in STAGES), "temporary MB", "GFLOP", "fusions")


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/depth")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.workdir, *options.child)))
        return
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for turn in range(options.turns):
        for depth in DEPTHS:
            for mode in MODES:
                words = ("--workdir", options.workdir, "--child", mode, depth)
                file = options.workdir / "turns" / f"{depth}-{mode}-{turn}.json"
                one = kept(file, lambda words=words: found_by("tlx", Path(__file__), *words))
                found.setdefault((depth, mode), []).append(one)
    rows = []
    for (depth, mode), turns in found.items():
        seconds = [f"{statistics.median(one[stage] for one in turns):.2f}" for stage in STAGES]
        costs = (f"{turns[0]['temporary'] / 1e6:,.0f}", f"{turns[0]['flops'] / 1e9:,.1f}", str(turns[0]["fusions"]))
        rows.append((str(depth), MODES[mode], *seconds, *costs))
    above = f"Medians of {options.turns} processes." if options.turns > 1 else "One process each."
    publish(options.workdir, "a step by depth", HEADER, rows, above=above)


def measured(workdir: Path, mode: str, depth: str) -> dict[str, Any]:
    """Traces, lowers and compiles a step in this process, and compiles it again from the cache."""
    import jax
    from arms import step_setup
    from flax import linen as nn

    from tlx.models.bert import BertConfig
    from tlx.models.heads import Head
    from tlx.models.model import build_model
    from tlx.pretrained.load import abstract_params

    folder = workdir / "compiled"
    shutil.rmtree(folder, ignore_errors=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    config = BertConfig(hidden_size=384, num_hidden_layers=int(depth), intermediate_size=1536)
    model = build_model(config, {"default": Head("classification", 2)})
    setup = step_setup(model, (), BATCH, LENGTH)
    state = jax.eval_shape(setup.begin, abstract_params(model))

    def stages() -> tuple[list[float], Any]:
        # a new object, for which JAX has traced nothing yet
        step, clock = jax.jit(dataclasses.replace(setup.step), donate_argnums=0), [time.perf_counter()]
        with nn.intercept_methods(unchanged) if mode == "each" else contextlib.nullcontext():
            traced = step.trace(state, {"train": setup.batch}, jax.random.key(0))
        clock.append(time.perf_counter())
        lowered = traced.lower()
        clock.append(time.perf_counter())
        program = lowered.compile()
        clock.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(clock)], program

    jax.block_until_ready(jax.random.key(0))
    (trace, lower, compile_), program = stages()
    jax.clear_caches()
    (_, _, from_cache), _ = stages()
    cost: Any = program.cost_analysis()
    return {
        **dict(zip(STAGES, (trace, lower, compile_, from_cache), strict=True)),
        "temporary": program.memory_analysis().temp_size_in_bytes, "flops": cost["flops"],
        "fusions": program.as_text().count(" fusion("),
    }  # fmt: skip


def unchanged(run: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor that changes nothing."""
    del context
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
