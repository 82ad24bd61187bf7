"""Several tasks take the same steps on one device and on eight: packed texts and words, masks, an adapter for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.several import with_words
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.training.writers import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.long]
LORA = {"lora.rank": 4, "lora.per_task": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "equal": ("equal", {"sampler.law": "annealed", "data.packing": "on"}),
    "pcgrad": ("pcgrad", {"data.packing": "on"}),
    "famo": ("famo", {}),
    "mgda": ("mgda", {"method.upper_bound": True, "data.packing": "on"}),
    "adapters": ("uncertainty", LORA),
}


@pytest.mark.parametrize("case", CASES)
def test_one_device_and_eight(case: str, task_files: Path, tmp_path: Path) -> None:
    method, fields = CASES[case]
    ends, losses = [], []
    for devices in (1, 8):
        # Adam divides by the square root of what may be rounding alone.
        fields = {**fields, "optimizer.name": "sgd", "optimizer.learning_rate": 0.05, "parallel.data": devices}
        config = with_words(task_files, tmp_path, method, **fields, **{"train.epochs": 0.5, "train.log_every": 1})
        config.tasks["masked"] = {"data": {"label": "label"}, "head": {"kind": "masked_lm"}}
        job = finetune.build(config, tmp_path / f"devices-{devices}")
        assert (job.packing is None) == ("data.packing" not in fields)
        job.run(quiet=True)
        ends.append({path: np.asarray(leaf) for path, leaf in flatten(job.best().params).items()})
        losses.append([line["train/loss"] for line in read_metrics(job.run_directory) if "train/loss" in line])
    assert len(losses[0]) > 4
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for path, leaf in ends[0].items():
        np.testing.assert_allclose(ends[1][path], leaf, rtol=1e-3, atol=1e-5, err_msg=path)
