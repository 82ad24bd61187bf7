"""The compilation cache on disk: a later process compiles no step anew if only data, seed, rate or length differ."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.long]  # test_compiled.py has the same within a process

# Trains and evaluates, and prints how many programs JAX looked up in its cache and how many it did not find.
RUN = """
import json, sys
from collections import Counter
import jax
from tests import tiny
from tlx.cli.launch import launched
from tlx.recipes import finetune

events = Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
checkpoint, data, fields, workdir = sys.argv[1:]
config = tiny.config(checkpoint, data)
config.update_from_flattened_dict(json.loads(fields))
with launched():
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    finetune.build(config, workdir).run(quiet=True)
print(json.dumps(events))
"""


def run(place: Path, name: str, data: Path, **fields: Any) -> dict[str, int]:
    """Runs in a process of its own, with the cache in `place`; returns how often JAX counted each of its events."""
    fields = {"train.epochs": 2.0, "data.packing": "off"} | {key.replace("__", "."): v for key, v in fields.items()}
    command = [sys.executable, "-c", RUN, str(place / "checkpoint"), str(data), json.dumps(fields), str(place / name)]
    done = subprocess.run(
        command,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(place / "programs")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def programs(place: Path) -> set[str]:
    return {file.name for file in (place / "programs").glob("*-cache")}


def test_other_data_seed_rate_and_length_find_all_programs(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "checkpoint")
    first = run(tmp_path, "first", tiny.write_reviews(tmp_path / "a.csv", 120))
    assert first["cache_misses"] > 0 and first.get("cache_hits", 0) == 0
    assert {"jit_train_step", "jit_forward"} <= {name.split("-")[0] for name in programs(tmp_path)}
    before = programs(tmp_path)
    other = {"seed": 7, "train__epochs": 3.0, "optimizer__learning_rate": 1e-4}
    second = run(tmp_path, "second", tiny.write_reviews(tmp_path / "b.csv", 140, seed=1), **other)
    # The mean loss over a whole split is a small program of the split's size.
    assert {name.split("-")[0] for name in programs(tmp_path) - before} <= {"jit_cross_entropy"}
    assert second.get("cache_misses", 0) == len(programs(tmp_path) - before)
    assert second["cache_hits"] > 0


def test_another_batch_is_another_program(tmp_path: Path) -> None:
    """So the first test can fail."""
    tiny.write_checkpoint(tmp_path / "checkpoint")
    data = tiny.write_reviews(tmp_path / "a.csv", 120)
    run(tmp_path, "first", data)
    assert run(tmp_path, "second", data, train__batch_size=24)["cache_misses"] > 0
