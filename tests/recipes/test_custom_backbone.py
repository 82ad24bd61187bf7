"""A linen module of a script's own in the backbone's place: rules, phases, checkpoints and a resumed run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from tests import tiny
from tlx.errors import TlxError
from tlx.params.paths import flatten
from tlx.recipes import defaults, finetune
from tlx.recipes.custom import custom_backbone
from tlx.recipes.run_directory import load_run

CHECKPOINT = Path(__file__).parents[2] / "configs" / "vit_digits"


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, pixel_values: jax.Array, deterministic: bool) -> jax.Array:
        x = nn.relu(nn.Conv(8, (3, 3), name="low")(pixel_values))
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="high")(x))
        return nn.Dropout(0.1)(x.mean(axis=(1, 2)), deterministic=deterministic)


def config() -> Any:
    made = defaults.finetune()
    made.model.checkpoint = str(CHECKPOINT)
    made.data.train = "builtin:digits"
    made.data.per_class = 20
    made.data.test_fraction = 0.2
    made.optimizer.learning_rate = 1e-2
    made.params.phases = ({"trainable": "heads"}, {"start": 1.0, "trainable": "last:1"}, {"start": 2.0})
    made.train.epochs = 3.0
    made.parallel.data = 1
    return made


def build(workdir: Path) -> finetune.Job:
    return finetune.build(config(), workdir, backbone=custom_backbone(Convolutions(), ("low", "high")))


@pytest.mark.slow
def test_it_learns_in_phases_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    job, seen = build(tmp_path / "whole"), []
    started = {path: np.array(leaf) for path, leaf in flatten(job.state.params).items()}
    assert {*started} == {
        *(f"backbone/{layer}/{leaf}" for layer in ("low", "high") for leaf in ("kernel", "bias")),
        "heads/default/output/kernel", "heads/default/output/bias",
    }  # fmt: skip
    tiny.before_each_step(job, lambda state: seen.append({p: np.array(x) for p, x in flatten(state.params).items()}))
    summary = job.run(quiet=True)
    each = job.schedule.steps_per_epoch
    for path, since in {"backbone/high/kernel": each, "backbone/low/kernel": 2 * each}.items():
        assert np.array_equal(seen[since][path], started[path]) and not np.array_equal(seen[-1][path], started[path])
    assert not np.array_equal(seen[each]["heads/default/output/kernel"], started["heads/default/output/kernel"])

    tiny.run_and_stop(build(tmp_path / "stopped"), each + 3)
    again = build(tmp_path / "stopped")
    assert again.run(quiet=True)["metrics"] == summary["metrics"]
    best, same = flatten(job.best()), flatten(again.best())
    assert all(np.array_equal(best[path], same[path]) for path in started)
    with pytest.raises(TlxError, match="is Convolutions, a module of a script; open the run there"):
        load_run(tmp_path / "whole")
