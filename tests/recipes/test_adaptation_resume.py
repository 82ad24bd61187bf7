"""Adaptation that is stopped goes on with the same bits, and takes the same steps on one device and on eight."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.recipes.test_compiled import programs_in
from tests.recipes.test_target import config, end
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.training.writers import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.long]
METHODS = ("dann", "mcd", "shot", "adda", "pseudo_labels")


def made(folder: Path, method: str) -> Any:
    """Eight steps in two epochs; of a method with two phases, the second begins after the first epoch's third step."""
    config_ = config(folder, method)
    if method in ("shot", "adda", "pseudo_labels"):
        config_.method.source_fraction = 0.375
    return config_


@pytest.mark.parametrize("method", METHODS)
def test_resumed_to_the_bit(method: str, tmp_path: Path) -> None:
    """Stopped before the first checkpoint, in each phase, and within an epoch of pseudo-labels."""
    whole = finetune.build(made(tmp_path, method), tmp_path / "whole")
    summary = whole.run(quiet=True)
    for steps in (1, 2, 1, 2):  # of each start; checkpoints are at 2, 4, 6 and 8
        tiny.run_and_stop(finetune.build(made(tmp_path, method), tmp_path / "stopped"), steps)
    again = finetune.build(made(tmp_path, method), tmp_path / "stopped")
    resumed = again.run(quiet=True)
    assert end(again) == end(whole)
    assert (resumed["metrics"], resumed["target"]) == (summary["metrics"], summary["target"])


@pytest.mark.parametrize("method", METHODS)
def test_one_device_and_eight(method: str, tmp_path: Path) -> None:
    ends, losses = [], []
    for devices in (1, 8):
        config_ = made(tmp_path, method)
        config_.parallel.data = devices
        # Adam divides by the square root of what may be rounding alone.
        config_.optimizer.name, config_.optimizer.learning_rate = "sgd", 0.05
        # With seed 0, MCD passes a kink of the absolute value or of pooling so closely that a change of 3e-7 in the
        # parameters, on one device too, takes the other side of it.
        config_.seed = 1
        job = finetune.build(config_, tmp_path / f"devices-{devices}")
        job.run(quiet=True)
        ends.append({path: np.asarray(leaf) for path, leaf in flatten(job.trained(8).params).items()})
        lines = read_metrics(job.run_directory)
        losses.append([line["train/loss"] for line in lines if "train/loss" in line])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for path, leaf in ends[0].items():
        np.testing.assert_allclose(ends[1][path], leaf, rtol=1e-3, atol=1e-5, err_msg=path)


def test_one_program_for_training_and_one_for_evaluation(tmp_path: Path) -> None:
    job = finetune.build(made(tmp_path, "dann"), tmp_path / "run")
    with programs_in(tmp_path / "programs"):
        job.run(quiet=True)
    names = [file.name.split("-")[0] for file in (tmp_path / "programs").glob("*-cache")]
    assert (names.count("jit_train_step"), names.count("jit_forward")) == (1, 1)
