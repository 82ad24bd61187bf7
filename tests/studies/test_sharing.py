"""What the trials of a worker share: data, checkpoints, frozen features and compiled programs, by counting them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies import made

pytestmark = [pytest.mark.slow, pytest.mark.long]
TRAINED = {"full": {"params.trainable": ""}, "head": {"params.trainable": "heads"}}
# A worker that prints what each of its trials read, computed and compiled.
WORKER = """
import json, sys
from collections import Counter
import jax
from tlx.cli import worker as command
from tlx.features.compute import Extractor
from tlx.recipes import load
from tlx.studies import worker

counts = Counter()

def counted(place, name):
    before = getattr(place, name)
    setattr(place, name, lambda *words, **more: (counts.update([name]), before(*words, **more))[1])

counted(load, "load_datasets")
counted(load, "load_model")
counted(Extractor, "fill")
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rpartition("/")[2]]))
jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: counts.update([event.rpartition("/")[2]]))
run = worker.run_config

def noted(config, *rest):
    counts.clear()
    result = run(config, *rest)
    fields = {"trained": config.params.trainable, "rate": config.optimizer.learning_rate, "seed": config.seed,
              "epochs": config.train.epochs}
    print("NOTED", json.dumps([fields, dict(counts), result.get("error")]), flush=True)
    return result

worker.run_config = noted
from tlx.cli.main import main
main(["worker", sys.argv[1]])
"""


def test_trials_share_what_they_read_and_compile(tmp_path: Path) -> None:
    levels = {
        f"{rate} for {epochs} epochs": {"optimizer.learning_rate": rate, "train.epochs": epochs}
        for rate, epochs in ((3e-3, 2.0), (1e-3, 3.0))
    }
    made.of_training(
        tmp_path, factors={"trained": TRAINED, "rate and epochs": levels}, seeds=2,
        changes={"data.packing": "off", "train.save_every": ""},
    )  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [line.removeprefix("NOTED ") for line in ended.stdout.splitlines() if line.startswith("NOTED ")]
    trials = [json.loads(line) for line in lines]
    assert len(trials) == 8 and not [error for *_, error in trials if error]
    assert sum(counts.get("load_datasets", 0) for _, counts, _ in trials) == 1
    assert sum(counts.get("load_model", 0) for _, counts, _ in trials) == 2, "one for each seed: heads differ"
    assert sum(counts.get("fill", 0) for _, counts, _ in trials) == 3, "the features of each split once"
    seen = set()
    for fields, counts, _ in trials:
        compiled = counts.get("backend_compile_duration", 0) - counts.get("cache_hits", 0)
        first = fields["trained"] not in seen
        seen.add(fields["trained"])
        assert (compiled > 0) == first, (fields, counts)
        assert counts["backend_compile_duration"] > 0, "programs are looked up, so that the count can fail"
