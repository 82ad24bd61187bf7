"""Whole runs, steps and predictions of tlx compared with PyTorch's (Trainer, peft, a sorted pipeline), as ratios.

    python benchmarks/speed.py --workdir=runs/speed                  # all parts; the same command goes on
    python benchmarks/speed.py --workdir=runs/speed --parts step     # one of run, step, predict

Runs are processes of their own, which take turns: for each seed the Trainer with plain padding, the Trainer with rows
grouped by length, tlx with an empty compilation cache, tlx with a filled one. Each finished process is one JSON file.
The peer of a row is the faster of the two Trainers. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import argparse
import csv
import dataclasses
import functools
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parent / folder) for folder in ("freezing", "predicting"))

from common import ROOT, arguments, finetuned, given_data, interval, kept, not_run, publish, run

from tlx.errors import one_sentence
from tlx.reporting.tables import markdown
from tlx.studies.study import load_study

PARTS = ("run", "step", "predict")
SIDES = ("Trainer", "Trainer, grouped", "tlx, cache empty", "tlx, cache filled")
VALIDATION = 50  # rows of train; tlx evaluates on them once
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA r=8": {"lora.rank": 8, "lora.alpha": 8.0},
    "head only": {"params.trainable": "heads"},
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A whole run.

    Attributes:
      name: in the table.
      task: one of configs/studies/trainer.py.
      size: training rows; None: all.
      strategy: `full`, `LoRA r=8` or `head only`.
      epochs: of training.
      goals: the largest ratio to the peer with an empty and with a filled cache.
    """

    name: str
    task: str
    size: int | None = None
    strategy: str = "full"
    epochs: float = 1.0
    goals: tuple[float, float] = (1.0, 0.8)


ROWS = (
    Row("sst2, 2,775 texts", "sst2", 2775),
    Row("mrpc", "mrpc"),
    Row("ag_news", "ag_news"),
    Row("sst2", "sst2"),
    Row("sst2, 2,775 texts, LoRA", "sst2", 2775, "LoRA r=8", goals=(float("inf"), 0.8)),
    Row("sst2, 2,775 texts, head only, 3 epochs", "sst2", 2775, "head only", 3.0, (float("inf"), 0.3)),
)
PARTS_OF_A_RUN = (
    "run", "steps", "programs compiled: step + evaluation", "first step ends, cache empty, s", "cache filled, s",
    "from there to the end, cache filled, s",
)  # fmt: skip
STEPS = {"MiniLM": 32, "BERT-base": 8, "ViT-B/16": 8}  # shape -> examples in a batch
STEP_GOALS = {"full": 0.95, "last 2": 0.9, "head only": 0.7}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what is missing, prints and writes the tables."""
    options = parse(argv)
    options.until = time.perf_counter() + 60 * options.minutes
    tables = {"run": whole_runs, "step": steps, "predict": predictions}
    texts = [tables[part](options) for part in PARTS if part in options.parts or options.report]
    (options.workdir / "table.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "runs/speed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", nargs="+", type=int, default=list(range(len(ROWS))), help="whole runs, by number")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5, help="of a few steps each")
    parser.add_argument("--sentences", type=int, default=100_000, help="to predict")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the tables of what there is")
    return parser.parse_args(argv)


def measured(options: argparse.Namespace, file: Path, find: Any) -> Any:
    """The stored result; None if there is none and no time to find it."""
    if not file.is_file() and (options.report or time.perf_counter() > options.until):
        return None
    return kept(file, find)


# Whole runs


def whole_runs(options: argparse.Namespace) -> str:
    """Makes the runs that are missing and returns their table."""
    header = (
        "run", "seeds", *(f"{side}, s" for side in SIDES), "cache empty / peer", "filled / peer",
        "peak MB, tlx / peer", "score, tlx", "score, peer", "difference, 95 %",
    )  # fmt: skip
    folder, table, parts = options.workdir / "runs", [], []
    for seed in range(options.seeds):
        for number in options.rows:
            for side in SIDES:
                find = functools.partial(one_run, options.workdir, ROWS[number], seed, side)
                measured(options, folder / f"{number}-{seed}-{SIDES.index(side)}.json", find)
    for number in range(len(ROWS)):
        files = [[folder / f"{number}-{seed}-{side}.json" for side in range(4)] for seed in range(options.seeds)]
        done = [[json.loads(file.read_text()) for file in four] for four in files if all(f.is_file() for f in four)]
        if done:
            table.append(run_cells(ROWS[number], done))
            parts.append(part_cells(ROWS[number], done))
    publish(options.workdir, "whole runs", header, table)
    return f"{markdown(header, table)}\n{markdown(PARTS_OF_A_RUN, parts)}"


def one_run(workdir: Path, row: Row, seed: int, side: str) -> dict[str, Any]:
    """Makes one run in a process of its own: seconds of the whole process, peak bytes, score on test."""
    out = workdir / "run"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    fields, cache = fields_of(row, workdir / "data" / f"{row.task}-{row.size}"), workdir / "compiled"
    if side == "tlx, cache empty":
        shutil.rmtree(cache, ignore_errors=True)
    began = time.perf_counter()
    if side.startswith("tlx"):
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "TLX_TOKEN_CACHE": ""}
        found = finetuned(out, {**fields, "seed": seed, "parallel.data": 1, "data.packing": "auto"}, env=environment)
    else:
        sampling = "group_by_length" if side.endswith("grouped") else "random"
        words = (seed, out / "found.json", json.dumps({**fields, "sampling": sampling}))
        run("torch", ROOT / "benchmarks" / "trainer" / "trainer.py", *words, log=out / "log.txt")
        found = json.loads((out / "found.json").read_text())
    wall = time.perf_counter() - began
    shutil.rmtree(out)
    few = {name: found[name] for name in ("seconds", "versions", "steps", "programs") if name in found}
    return {"wall": wall, "score": found["metrics"]["test/accuracy"], "peak": found["peak_memory_bytes"], **few}


def fields_of(row: Row, folder: Path) -> dict[str, Any]:
    """The fields of a run of both sides: the recipe of the study with the Trainer, on the first rows of train."""
    given_data(row.task)
    fields = dict(load_study(f"{ROOT}/configs/studies/trainer.py:{row.task}", full=True)[0].changes)
    with Path(os.path.expandvars(fields["data.train"].removeprefix("csv:"))).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    folder.mkdir(parents=True, exist_ok=True)
    size = row.size or len(rows) - VALIDATION
    for part, chosen in (("train", rows[:size]), ("validation", rows[-VALIDATION:])):
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *chosen])
        fields[f"data.{part}"] = f"csv:{folder / part}.csv"
    sizes = {"train.batch_size": 32, "train.epochs": row.epochs, "train.evaluate_every": row.epochs}
    return {**fields, **sizes, **STRATEGIES[row.strategy]}


def run_cells(row: Row, done: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """The cells of a row of whole runs."""
    columns = list(zip(*done, strict=True))
    walls = [statistics.median(each["wall"] for each in column) for column in columns]
    peer = 0 if walls[0] <= walls[1] else 1
    scores = {name: [100 * each["score"] for each in columns[side]] for name, side in (("tlx", 3), ("peer", peer))}
    peaks = [statistics.median(each["peak"] for each in columns[side]) / 1e6 for side in (3, peer)]
    several = len(done) > 1
    differences = [ours - theirs for ours, theirs in zip(scores["tlx"], scores["peer"], strict=True)]  # by seed
    difference = interval(differences) if several else "–"
    ratios = [
        f"{walls[side] / walls[peer]:.2f}" + (f" (goal {goal})" if goal < float("inf") else "")
        for side, goal in zip((2, 3), row.goals, strict=True)
    ]
    means = [f"{statistics.mean(values):.1f}" for values in scores.values()]
    shown = [f"{wall:.0f}" for wall in walls]
    return (row.name, str(len(done)), *shown, *ratios, f"{peaks[0]:,.0f} / {peaks[1]:,.0f}", *means, difference)


def part_cells(row: Row, done: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """The cells of a row about the parts of the runs of tlx."""
    empty, filled = ([each[side] for each in done] for side in (2, 3))
    names = empty[0]["programs"]["names"]
    programs = " + ".join(str(names.get(f"jit({name})", 0)) for name in ("train_step", "forward"))
    first = [[each["programs"]["first_step"] for each in side] for side in (empty, filled)]
    rest = [each["wall"] - each["programs"]["first_step"] for each in filled]
    seconds = (f"{statistics.median(values):.1f}" for values in (*first, rest))
    return (row.name, str(empty[0]["steps"]), programs, *seconds)


# Steps alone


def steps(options: argparse.Namespace) -> str:
    """Measures compiled steps on one padded batch, and returns their table."""
    from beside import measure

    header = (
        "model × batch", "trained", "tlx, ms", "torch, ms", "tlx / torch", "peak MB, tlx / torch",
        "needed products, GFLOP/s", "of the fastest product",
    )  # fmt: skip
    table, left = [], []
    fastest = measured(options, options.workdir / "steps" / "product.json", fastest_product)
    for shape, rows in STEPS.items():
        for strategy, goal in STEP_GOALS.items():
            file = options.workdir / "steps" / f"{shape.replace('/', '_')}-{strategy.replace(' ', '_')}.json"
            found = measured(options, file, functools.partial(measure, shape, strategy, rows, options.turns))
            if found is None:
                left.append(f"{strategy} of {shape}")
                continue
            ours, theirs = (statistics.median(found[side]["milliseconds"]) for side in ("tlx", "torch"))
            peaks = " / ".join(f"{found[side]['peak'] / 1e6:,.0f}" for side in ("tlx", "torch"))
            ratio = f"{ours / theirs:.2f} (goal {goal})"
            rate = needed_products(shape, strategy, rows) / ours / 1e6
            share = "–" if fastest is None else f"{rate / fastest:.0%}"
            cells = (f"{shape} × {rows}", strategy, f"{ours:,.0f}", f"{theirs:,.0f}", ratio, peaks)
            table.append((*cells, f"{rate:,.0f}", share))
    publish(options.workdir, "steps", header, table, below=not_run(left))
    return f"{markdown(header, table)}\n{not_run(left).strip()}".strip()


def needed_products(shape: str, strategy: str, rows: int) -> int:
    """Operations of the matrix products that a step needs."""
    from arms import CLASSES, SHAPES, arm, step_setup
    from count import expected

    config, _, length = SHAPES[shape]
    player_of = step_setup(*arm(config, strategy), rows, length).player_of
    learning = [path for path, player in player_of.items() if player]
    return sum(expected(config, rows, length, CLASSES, learning))


def fastest_product() -> float:
    """GFLOP/s of the fastest of twenty products of float32 matrices of 2048 x 2048 in JAX, on all cores."""
    import jax
    import jax.numpy as jnp

    size, seconds = 2048, []
    product, matrix = jax.jit(jnp.matmul), jnp.ones((size, size))
    for _ in range(21):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds[1:]) / 1e9


# Predictions


def predictions(options: argparse.Namespace) -> str:
    """Predicts many short sentences with both sides and returns the table."""
    header = ("sentences", "tlx predict, s", "torch, sorted by length, s", "tlx / torch", "peak MB", "same class")
    file = options.workdir / f"predict-{options.sentences}.json"
    found = measured(options, file, functools.partial(predict_both, options.workdir, options.sentences))
    if found is None:
        return "Predictions were not measured."
    seconds, peaks = ([found[side][what] for side in ("tlx", "torch")] for what in ("seconds", "peak"))
    ratio = f"{seconds[0] / seconds[1]:.2f} (goal 0.7)"
    cells = (
        f"{found['sentences']:,}",
        *(f"{s:.0f}" for s in seconds),
        ratio,
        " / ".join(f"{p / 1e6:,.0f}" for p in peaks),
        f"{found['same']:.2%}",
    )
    publish(options.workdir, "predictions", header, [cells])
    return markdown(header, [cells])


def predict_both(workdir: Path, count: int) -> dict[str, Any]:
    """Fine-tunes briefly, exports, and predicts the same sentences from the same folder with both sides.

    The classes of both sides are compared sentence by sentence.
    """
    from predicting import predicted

    return predicted(workdir / "predict", given_data("sst2") / "sst2" / "train.csv", count)


if __name__ == "__main__":
    with one_sentence():
        main()
