"""Methods of several tasks on five sets of texts with MiniLM, and each task alone: 36 runs, with $TLX_DATA.

python experiments/ablate.py --study=configs/studies/tasks.py --workdir=runs/studies/tasks

`test/delta_m` is the mean relative gain over the arms of one task, which see as many examples of their task. The short
form has 1,500 training rows of each task, `--full` all of them.
"""

from tlx.studies.study import Study

METHODS = ("equal", "uncertainty", "dwa", "gradnorm", "pcgrad", "cagrad", "famo")
METRICS = {"sst2": "accuracy", "subj": "accuracy", "ag_news": "accuracy", "mrpc": "accuracy", "wnut17": "entity_f1"}


def get_study() -> Study:
    """The study."""
    splits = ("test", "validation")
    return Study(
        name="tasks",
        config="../multitask_texts.py",
        factors={
            "method": {name: {"method.name": name} for name in METHODS}
            | {f"{task} alone": {"single_task": task} for task in METRICS}
        },
        seeds=3,
        seed_fields=("seed", "data.split_seed"),
        metrics={f"{split}/delta_m": "maximize" for split in splits}
        | {f"{task}/{split}/{name}": "maximize" for split in splits for task, name in METRICS.items()},
        short={"data.train_rows": 1500, "train.epochs": 2.0},
        full={"train.epochs": 3.0},
    )
