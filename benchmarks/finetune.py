"""One run of tlx in its own process, so that its peak memory can be measured: python finetune.py FOLDER FIELDS RESULT.

FIELDS is JSON, `{field of the config: value}`. The run directory is FOLDER/run; RESULT becomes a JSON file of what was
measured, which a study can read.
"""

import collections
import dataclasses
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from process import peak, since_start

from tlx.cli.launch import launched
from tlx.recipes import defaults, finetune
from tlx.training.writers import read_metrics


def main(folder: Path, fields: str, result: Path) -> None:
    """Trains, writes the results, and removes the checkpoints."""
    config = defaults.finetune()
    config.update_from_flattened_dict(json.loads(fields))
    programs = compilations()
    started = time.perf_counter()
    job = finetune.build(config, folder / "run")
    built = time.perf_counter()
    job.phases = tuple(dataclasses.replace(phase, step=timed(phase.step, programs)) for phase in job.phases)
    summary = job.run(quiet=True)
    ended = time.perf_counter()
    examples = job.tasks["default"].splits
    rates = [line["train/examples_per_s"] for line in read_metrics(folder / "run") if "train/examples_per_s" in line]
    found = {
        "metrics": {**summary["metrics"], "seconds": ended - started},
        "seconds": summary["seconds"],
        "trainable_parameters": summary["parameters"]["trainable"],
        "build_seconds": built - started,
        "epoch_seconds": len(examples["train"]) / statistics.median(rates[1:] or rates),
        "peak_memory_bytes": peak(),
        "steps": job.schedule.total,
        "programs": programs,
        "labels": job.tasks["default"].head.labels,
        "versions": {"tlx": summary["revision"] or summary["versions"]["tlx"], "jax": summary["versions"]["jax"]},
    }
    shutil.rmtree(folder / "run" / "checkpoints")
    result.write_text(json.dumps(found), encoding="utf-8")


def compilations() -> dict[str, Any]:
    """Begins to count the programs that are compiled or read from the cache: `{"names": {name: count}}`."""
    import jax

    found: dict[str, Any] = {"names": collections.Counter()}

    def add(event: str, seconds: float, **facts: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found["names"][str(facts.get("fun_name"))] += 1

    jax.monitoring.register_event_duration_secs_listener(add)
    return found


def timed(step: Any, programs: dict[str, Any]) -> Any:
    """The step; its first call writes `first_step`, the seconds since the start of the process until it ended."""
    import jax

    def call(state: Any, batch: Any) -> Any:
        result = step(state, batch)
        if "first_step" not in programs:
            jax.block_until_ready(result)
            programs["first_step"] = since_start()
        return result

    return call


if __name__ == "__main__":
    with launched():
        main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
