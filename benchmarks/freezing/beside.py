"""Time and memory of a training step compared with PyTorch (transformers, peft), for each freezing strategy.

    python benchmarks/freezing/beside.py --workdir=runs/beside

Both processes run at the same time and take turns of a few steps, so that machine load affects both alike; the median
of the turns is reported. Random weights, float32, AdamW, no dropout, all cores. Peak memory is that of the process,
including Python, libraries and compilation. The other Python is TLX_INTEROP_PYTHON, or .venv-interop. The same command
resumes a stopped measurement.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from arms import STRATEGIES, TABLE

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, kept, not_run, publish, python_of

from tlx.errors import TlxError, one_sentence

HERE = Path(__file__).parent
HEADER = (
    "model", "strategy", "trainable", "tlx, ms a step", "torch, ms a step", "torch / tlx", "tlx, peak MB",
    "torch, peak MB",
)  # fmt: skip


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/beside")
    parser.add_argument("--rows", type=int, default=8, help="examples in a batch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no row after so many")
    options = parser.parse_args()
    started, table, left = time.perf_counter(), [], []
    for shape in TABLE:
        for strategy in STRATEGIES:
            file = options.workdir / f"{shape.replace('/', '_')}-{strategy.replace(' ', '_')}-{options.rows}.json"
            if file.is_file() or time.perf_counter() - started < 60 * options.minutes:
                row = kept(file, functools.partial(measure, shape, strategy, options.rows, options.turns))
                table.append((shape, strategy, *cells(row)))
            else:
                left.append(f"{strategy} of {shape}")
    note = f"Batches of {options.rows}; {os.cpu_count()} cores; median of {options.turns} turns." + not_run(left)
    publish(options.workdir, "compared with PyTorch", HEADER, table, above=note)


def measure(shape: str, strategy: str, rows: int, turns: int) -> dict[str, Any]:
    """Measures one row: trained parameters, and for each side milliseconds per step of each turn and peak bytes."""
    sides = {}
    for side, script in (("tlx", "ours.py"), ("torch", "theirs.py")):
        command = [python_of(side), str(HERE / script), shape, strategy, str(rows)]
        sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    trainable = {side: answer(process)["trainable"] for side, process in sides.items()}
    if trainable["tlx"] != trainable["torch"]:
        raise TlxError(f"{shape}, {strategy}: the numbers of trained parameters differ between the sides, {trainable}.")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    count = {}
    for side, process in sides.items():  # a turn takes about two seconds and has at least three steps
        count[side] = max(3, round(2 / ask(process, 2) * 2))
    for _ in range(turns):
        for side, process in sides.items():
            seconds[side].append(ask(process, count[side]) / count[side])
    found: dict[str, Any] = {"trainable": trainable["tlx"]}
    for side, process in sides.items():
        process.stdin.close()
        found[side] = {"milliseconds": [1e3 * s for s in seconds[side]], "peak": answer(process)["peak"]}
        process.wait()
    return found


def ask(process: Any, steps: int) -> float:
    """Runs so many steps in a process and returns the seconds."""
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return float(answer(process)["seconds"])


def answer(process: Any) -> dict[str, Any]:
    """The next JSON line of a process."""
    for line in process.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    raise TlxError(f"{' '.join(process.args)} ended without output; run it by hand to see why.")


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a table row."""
    ours, theirs = (statistics.median(found[side]["milliseconds"]) for side in ("tlx", "torch"))
    peaks = (f"{found[side]['peak'] / 1e6:,.0f}" for side in ("tlx", "torch"))
    return f"{found['trainable']:,}", f"{ours:,.0f}", f"{theirs:,.0f}", f"{theirs / ours:.2f}", *peaks


if __name__ == "__main__":
    with one_sentence():
        main()
