"""Time and memory of a training step compared with PyTorch (transformers, peft), for one freezing strategy.

    python beside.py SHAPE STRATEGY ROWS RESULT

Both processes run at the same time and take turns of a few steps, so that machine load affects both alike; the median
of the turns is reported. Random weights, float32, AdamW, no dropout, all cores. Peak memory is that of the process,
including Python, libraries and compilation. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
configs/studies/freezing.py has all arms.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import python_of

from tlx.errors import TlxError, one_sentence
from tlx.recipes.run_directory import write_json

HERE = Path(__file__).parent
TURNS = 3


def main(shape: str, strategy: str, rows: str, result: str) -> None:
    """Writes the measures of one arm as metrics."""
    found = measure(shape, strategy, int(rows), TURNS)
    ours, theirs = (statistics.median(found[side]["milliseconds"]) for side in ("tlx", "torch"))
    metrics = {"torch to tlx": theirs / ours, "tlx, ms a step": ours, "torch, ms a step": theirs}
    metrics |= {f"{side}, peak MB": found[side]["peak"] / 1e6 for side in ("tlx", "torch")}
    write_json(Path(result), {"metrics": metrics, "trainable_parameters": found["trainable"]})


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


if __name__ == "__main__":
    with one_sentence():
        main(*sys.argv[1:])
