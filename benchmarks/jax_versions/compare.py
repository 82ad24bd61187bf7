"""Training steps with two versions of JAX: this environment's and that of another Python.

    python benchmarks/jax_versions/compare.py --other PYTHON --workdir=runs/jax_versions      # the same command goes on

Both processes take turns on full fine-tuning (shapes of speed.py: float32, AdamW, no dropout); the figures are medians.
Until two steps are done, a process imports, traces and compiles, without a cache on disk.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("", "freezing"))

from beside import HERE
from common import arguments, kept, publish
from speed import STEPS
from turns import answer, ask


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/jax_versions")
    parser.add_argument("--other", required=True, help="a Python whose environment has tlx and another JAX")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    pythons = {version(python): python for python in (sys.executable, options.other)}
    rows = []
    for shape, batch in STEPS.items():
        file = options.workdir / f"{shape.replace('/', '_')}.json"
        found = kept(file, lambda shape=shape, batch=batch: measured(pythons, shape, batch, options.turns))
        milliseconds = [statistics.median(found[each]["ms"]) for each in pythons]
        first = [f"{found[each]['first']:.1f}" for each in pythons]
        ratio = f"{milliseconds[1] / milliseconds[0]:.2f}"
        rows.append((f"{shape} × {batch}", *(f"{each:,.0f}" for each in milliseconds), ratio, *first))
    names = list(pythons)
    columns = [f"JAX {name}, ms" for name in names] + [f"{names[1]} / {names[0]}"]
    header = ("model × batch", *columns, *(f"{name}: until two steps are done, s" for name in names))
    publish(options.workdir, "two versions of JAX", header, rows)


def version(python: str) -> str:
    """JAX's version in the environment of a Python."""
    command = [python, "-c", "import jax; print(jax.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measured(pythons: dict[str, str], shape: str, batch: int, turns: int) -> dict[str, Any]:
    """Milliseconds a step of each turn, and seconds until two steps are done, by version."""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    processes, first = {}, {}
    for name, python in pythons.items():
        began = time.perf_counter()
        command = [python, str(HERE / "ours.py"), shape, "full", str(batch)]
        processes[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        answer(processes[name])
        first[name] = time.perf_counter() - began
    seconds: dict[str, list[float]] = {name: [] for name in pythons}
    for _ in range(turns):
        for name, process in processes.items():
            seconds[name].append(ask(process, 3) / 3)
    for process in processes.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    return {name: {"ms": [1e3 * each for each in seconds[name]], "first": first[name]} for name in pythons}


if __name__ == "__main__":
    main()
