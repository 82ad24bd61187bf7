"""What a step of domain adaptation costs: operations and time over those of source only, and beside PyTorch.

    python benchmarks/adaptation/costs.py --workdir=runs/adaptation_costs      # the same command goes on

MiniLM, 16 texts of 128 tokens of each domain (source only: 16), float32, AdamW, no dropout. For each method tlx, tlx
with the source only and, where there is one, PyTorch take turns of a few steps; figures are medians of the turns. The
other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, kept, publish, python_of
from turns import take_turns

from tlx.errors import TlxError, one_sentence

HERE = Path(__file__).parent
IN_TORCH = {
    "DANN": True, "Deep CORAL": True, "MCC": True, "DAN": False, "JAN": False, "CDAN+E": False,
    "entropy minimization": False, "DeepJDOT": False, "MCD, one generator step": False,
}  # fmt: skip
GOAL = 1.1


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/adaptation_costs")
    parser.add_argument("--rows", type=int, default=16, help="texts of each domain")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for method in IN_TORCH:
        file = options.workdir / f"{method}-{options.rows}.json"
        found = kept(file, lambda method=method: measured(method, options.rows, options.turns))
        ours, source, *theirs = (statistics.median(each["milliseconds"]) for each in found.values())
        flops = found["tlx"]["flops"] / found["source only"]["flops"]
        torch = [f"{each:,.0f}" for each in theirs] + [f"{ours / each:.2f} (goal {GOAL})" for each in theirs]
        times = (f"{ours:,.0f}", f"{ours / source:.2f}", f"{ours / source / flops:.2f} (goal {GOAL})")
        rows.append((method, f"{flops:.2f}", *times, *(torch or ("–", "–"))))
    header = (
        "method", "operations / source only", "ms a step", "time / source only", "time / operations", "torch, ms",
        "tlx / torch",
    )  # fmt: skip
    publish(options.workdir, "steps of domain adaptation", header, rows)


def measured(method: str, rows: int, turns: int) -> dict[str, Any]:
    """Milliseconds a step of each turn, operations and peak memory, by process."""
    commands = {
        "tlx": [python_of("tlx"), str(HERE / "costs_ours.py"), method, str(rows)],
        "source only": [python_of("tlx"), str(HERE / "costs_ours.py"), "source only", str(rows)],
    }
    if IN_TORCH[method]:
        commands["torch"] = [python_of("torch"), str(HERE / "costs_theirs.py"), method, str(rows)]
    found = take_turns(commands, turns)
    if IN_TORCH[method] and found["tlx"]["trainable"] != found["torch"]["trainable"]:
        numbers = {name: each["trainable"] for name, each in found.items()}
        raise TlxError(f"{method}: the numbers of trained parameters differ between the sides, {numbers}.")
    return found


if __name__ == "__main__":
    with one_sentence():
        main()
