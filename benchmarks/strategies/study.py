"""Eight strategies of choosing the trained parameters, on three data sets: metric, trained parameters, memory, time.

    python benchmarks/strategies/study.py --workdir=runs/strategies

SST-2 and MRPC with MiniLM (200 examples a class), CIFAR-10's cats against its dogs with a small ViT (all 500 a class).
The given dev file is the test split; texts are padded to 32 or 64 tokens. Each run is a process on one core; as
many run at a time as there are cores. The same command resumes a stopped study. Runs are ordered by seed, so that the
finished runs are balanced at any time; missing runs are listed. After `--minutes` no run is started.
"""

import json
import os
import queue
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from strategies import SETS, STRATEGIES

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import Interval, arguments, finetuned, given_data, interval, not_run, publish

from tlx.errors import one_sentence

CATS_AND_DOGS = (3, 5)  # CIFAR-10's labels
LENGTH_BUCKETS = (32, 64)  # with more lengths, a run of 39 steps would compile longer than it trains
HEADER = ("set", "strategy", "metric, 95 %", "trainable", "peak MB", "s an epoch", "s in all", "seeds")
Arm = tuple[int, str, str]  # seed, set, strategy
Found = dict[tuple[str, str], list[Mapping[str, Any]]]


def main() -> None:
    """Runs what is missing, prints and writes the table and the picture."""
    parser = arguments(__doc__, "runs/strategies")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no run after so many")
    options = parser.parse_args()
    workdir, started = options.workdir, time.perf_counter()
    write_cats_and_dogs(given_data("sst2", "mrpc", "cifar10", "weights") / "cifar10", workdir / "cats_and_dogs")
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
    """The results of every run, in order; missing runs are run. None for a run that would start after `until`."""
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
                one_run(folder, name, strategy, seed, core)
            finally:
                cores.put(core)
        return dict(json.loads((folder / "found.json").read_text()))

    with ThreadPoolExecutor(cores.qsize()) as pool:
        yield from pool.map(one, arms)


def write_cats_and_dogs(cifar10: Path, folder: Path) -> None:
    """Writes the two classes of CIFAR-10 that the checkpoint was not trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev"):
        if not (folder / f"{part}.npz").is_file():
            with np.load(cifar10 / f"{part}.npz") as saved:
                kept = np.isin(saved["label"], CATS_AND_DOGS)
                np.savez(folder / f"{part}.npz", image=saved["image"][kept], label=saved["label"][kept])


def one_run(folder: Path, name: str, strategy: str, seed: int, core: int) -> None:
    """Runs one arm in its own process on one core. The seed also decides the sample of labels and the split."""
    started = time.perf_counter()
    fields = {**SETS[name].fields, **STRATEGIES[strategy], "seed": seed, "data.split_seed": seed, "parallel.data": 1}
    found = finetuned(
        folder, {**fields, "length_buckets": LENGTH_BUCKETS}, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    spent = time.perf_counter() - started
    print(f"seed {seed}  {name:14} {strategy:20} {metric_of(name, found):.4f}  {spent:.0f} s", flush=True)


def metric_of(name: str, run: Mapping[str, Any]) -> float:
    """The metric of the data set on the test split."""
    return float(run["metrics"][f"test/{SETS[name].metric}"])


def report(workdir: Path, found: Found, left: list[str]) -> None:
    """Writes the table and the picture of the metric over the time of an epoch."""
    rows = []
    for (name, strategy), runs in found.items():
        mean, half = mean_of(name, runs)
        rows.append(
            (
                name, strategy, f"{mean:.4f} ± {half:.4f}", f"{runs[0]['parameters']['trainable']:,}",
                f"{np.median([run['peak'] for run in runs]) / 1e6:,.0f}",
                f"{np.median([run['epoch_seconds'] for run in runs]):.2f}",
                f"{np.median([run['seconds'] for run in runs]):.0f}", str(len(runs)),
            )
        )  # fmt: skip
    note = (
        "Metric on test: accuracy, for MRPC F1; mean over seeds (sampled labels, head, order) ± half its 95 % interval."
    )
    note += " Each run on one core." + (not_run(left) or " All arms run.")
    publish(workdir, "strategies", HEADER, rows, below=note)
    plot(found, workdir / "strategies.png")


def mean_of(name: str, runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The metric's mean and half of its 95 % interval (NaN for a single run)."""
    values = [metric_of(name, run) for run in runs]
    found = interval((1, values)) if len(values) > 1 else Interval(values[0], np.nan, np.nan, 0)
    return found.mean, found.high - found.mean


def plot(found: Found, file: Path) -> None:
    """Plots one panel per data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, len(SETS))
    for axis, name in zip(axes, SETS, strict=True):
        for index, strategy in enumerate(STRATEGIES):
            if runs := found.get((name, strategy)):
                mean, half = mean_of(name, runs)
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
