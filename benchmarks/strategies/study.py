"""Eight ways to choose what learns, on three sets: metric, trainable parameters, memory, time.

    python benchmarks/strategies/study.py --workdir=runs/strategies

SST-2 and MRPC with MiniLM (200 examples a class), CIFAR-10's cats against its dogs with a small ViT (all 500 a class).
The given dev file is the test split; texts are padded to 32 or 64 tokens. Each run is a process and has one core, as
many run at a time as there are cores; the same command goes on where it was stopped.
Seed by seed, so that what is done at any time is balanced; what is not done is listed. `--minutes` ends it in time.
"""

import argparse
import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from strategies import SETS, STRATEGIES

from tlx.errors import TlxError, one_sentence
from tlx.reporting.tables import markdown, show

HERE = Path(__file__).parent
CATS_AND_DOGS = (3, 5)  # CIFAR-10's labels
HEADER = ("set", "strategy", "metric, 95 %", "trainable", "peak MB", "s an epoch", "s in all", "seeds")
Arm = tuple[int, str, str]  # seed, set, strategy
Found = dict[tuple[str, str], list[Mapping[str, Any]]]


def main() -> None:
    """Runs what is missing, prints and keeps the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no run after so many")
    options = parser.parse_args()
    workdir, started = options.workdir.absolute(), time.perf_counter()
    if not (Path(os.environ.get("TLX_DATA", "")) / "cifar10").is_dir():
        raise TlxError("the environment variable TLX_DATA names no folder that holds sst2, mrpc, cifar10 and weights.")
    write_cats_and_dogs(workdir / "cats_and_dogs")
    os.environ["CATS_AND_DOGS"] = str(workdir / "cats_and_dogs")
    arms = [(seed, name, strategy) for seed in range(options.seeds) for name in SETS for strategy in STRATEGIES]
    print(f"{len(arms)} runs: {options.seeds} seeds of {len(STRATEGIES)} strategies on {', '.join(SETS)}.", flush=True)
    for name, chosen in SETS.items():
        print(name, *(f"{field}={value}" for field, value in chosen.fields.items()), sep="  ", flush=True)
    found: Found = {}
    left = []
    for (seed, name, strategy), values in zip(arms, each(arms, workdir, started + 60 * options.minutes), strict=True):
        if values:
            found.setdefault((name, strategy), []).append(values)
        else:
            left.append(f"{strategy} on {name}, seed {seed}")
    report(workdir, found, left)


def each(arms: list[Arm], workdir: Path, until: float) -> Iterator[Mapping[str, Any] | None]:
    """What every run found, run now where it was not before; None of what is not begun by then."""
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def one(arm: Arm) -> Mapping[str, Any] | None:
        seed, name, strategy = arm
        folder = workdir / "runs" / f"{seed}-{name}-{strategy}".replace(" ", "_").replace(",", "")
        if not (folder / "found.json").is_file():
            if time.perf_counter() > until:
                return None
            core = cores.get()
            try:
                run(folder, name, strategy, seed, core)
            finally:
                cores.put(core)
        return dict(json.loads((folder / "found.json").read_text()))

    with ThreadPoolExecutor(cores.qsize()) as pool:
        yield from pool.map(one, arms)


def write_cats_and_dogs(folder: Path) -> None:
    """The two classes of CIFAR-10 that the checkpoint has not seen."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev"):
        if not (folder / f"{part}.npz").is_file():
            with np.load(Path(os.environ["TLX_DATA"]) / "cifar10" / f"{part}.npz") as saved:
                kept = np.isin(saved["label"], CATS_AND_DOGS)
                np.savez(folder / f"{part}.npz", image=saved["image"][kept], label=saved["label"][kept])


def run(folder: Path, name: str, strategy: str, seed: int, core: int) -> None:
    """One run in a process of its own, on a core of its own."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    folder.mkdir(parents=True)
    started = time.perf_counter()
    command = [sys.executable, str(HERE / "arm.py"), name, strategy, str(seed), str(folder)]
    pinned = functools.partial(os.sched_setaffinity, 0, {core})
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pinned)
    (folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise TlxError(f"the run {folder} failed; its log.txt ends: {done.stderr.strip()[-300:]}")
    metric = json.loads((folder / "found.json").read_text())["metric"]
    spent = time.perf_counter() - started
    print(f"seed {seed}  {name:14} {strategy:20} {SETS[name].metric} {metric:.4f}  {spent:.0f} s", flush=True)


def report(workdir: Path, found: Found, left: list[str]) -> None:
    """The table, its numbers, the picture of the metric over the time of an epoch."""
    rows = []
    for (name, strategy), runs in found.items():
        mean, half = interval([run["metric"] for run in runs])
        rows.append(
            (
                name, strategy, f"{mean:.4f} ± {half:.4f}", f"{runs[0]['trainable']:,}",
                f"{np.median([run['memory'] for run in runs]) / 1e6:,.0f}",
                f"{np.median([run['epoch_seconds'] for run in runs]):.2f}",
                f"{np.median([run['seconds'] for run in runs]):.0f}", str(len(runs)),
            )
        )  # fmt: skip
    show("what learns", HEADER, rows)
    told = "Metric on test: accuracy, of MRPC F1; mean over seeds (labels drawn, head, order) ± half its 95 % interval."
    told += " Each run on one core. "
    told += f"Not run: {'; '.join(left)}." if left else "All arms run."
    print(told)
    (workdir / "table.md").write_text(f"{markdown(HEADER, rows)}\n{told}\n", encoding="utf-8")
    plot(found, workdir / "strategies.png")


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its interval of 95 % (Student's t)."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), half


def plot(found: Found, file: Path) -> None:
    """One panel a set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, len(SETS))
    for axis, name in zip(axes, SETS, strict=True):
        for index, strategy in enumerate(STRATEGIES):
            if runs := found.get((name, strategy)):
                mean, half = interval([run["metric"] for run in runs])
                seconds = float(np.median([run["epoch_seconds"] for run in runs]))
                axis.errorbar(seconds, mean, half, fmt="o", capsize=3, color=f"C{index}", label=strategy)
        axis.set_title(name, fontsize=10)
        axis.set_xscale("log")
        axis.set_xlabel("seconds an epoch, one core")
        axis.set_ylabel(f"{SETS[name].metric.replace('f1', 'F1')} on test, 95 %")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(file, dpi=160)


if __name__ == "__main__":
    with one_sentence():
        main()
