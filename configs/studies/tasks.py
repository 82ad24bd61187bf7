"""Methods of several tasks on five sets of texts with MiniLM, and each task alone: 39 runs, with $TLX_DATA.

python experiments/ablate.py --study=configs/studies/tasks.py --workdir=runs/studies/tasks

`test/delta_m` is the mean relative gain over the arms of one task. The short form trains two blocks on 900 rows of each
task, once (docs/howto_tasks.md has the minutes of its runs, two of which run at once with `--workers=2`); `--full`
trains all parameters on all rows.
"""

from tlx.studies.study import Study

METHODS = ("equal", "uncertainty", "dwa", "gradnorm", "pcgrad", "cagrad", "famo")
LORA = {  # heads have the rate that they have in the other arms of the short form
    "lora.rank": 8, "lora.per_task": True, "params.trainable": "", "optimizer.learning_rate": 2e-3,
    "params.head_multiplier": 1.25,
}  # fmt: skip
METRICS = {"sst2": "accuracy", "subj": "accuracy", "ag_news": "accuracy", "mrpc": "accuracy", "wnut17": "entity_f1"}
SPLITS = ("test", "validation")


def get_study() -> Study:
    """The study."""
    methods = {name: {"method.name": name} for name in METHODS} | {"LoRA per task": LORA}
    metrics = [f"{task}/{split}/{name}" for split in SPLITS for task, name in METRICS.items()]
    return Study(
        name="tasks",
        config="../multitask_texts.py",
        factors={"method": methods | {f"{task} alone": {"single_task": task} for task in METRICS}},
        seed_fields=("seed", "data.split_seed"),
        metrics=dict.fromkeys([*(f"{split}/delta_m" for split in SPLITS), *metrics], "maximize"),
        short={
            "data.train_rows": 900, "train.epochs": 1.0, "params.trainable": "last:2", "optimizer.learning_rate": 5e-4,
        },
    )  # fmt: skip
