"""Time and memory of a training step compared with PyTorch (transformers, peft), for one freezing strategy.

    python beside.py SHAPE STRATEGY ROWS RESULT

Both processes run at the same time and take turns of a few steps, so that machine load affects both alike; the median
of the turns is reported. Random weights, float32, AdamW, no dropout, all cores. Peak memory is that of the process,
including Python, libraries and compilation. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
configs/studies/freezing.py has all arms.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import python_of
from turns import take_turns

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
    scripts = {"tlx": "ours.py", "torch": "theirs.py"}
    commands = {side: [python_of(side), str(HERE / name), shape, strategy, str(rows)] for side, name in scripts.items()}
    found: dict[str, Any] = take_turns(commands, turns)
    trainable = {side: each["trainable"] for side, each in found.items()}
    if trainable["tlx"] != trainable["torch"]:
        raise TlxError(f"{shape}, {strategy}: the numbers of trained parameters differ between the sides, {trainable}.")
    return {"trainable": trainable["tlx"], **found}


if __name__ == "__main__":
    with one_sentence():
        main(*sys.argv[1:])
