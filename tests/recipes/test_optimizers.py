"""Runs by other optimizers, schedules and metrics than the defaults: resumed to the same bits, inspected, refused."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tests.recipes.test_resume import run
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.recipes import finetune
from tlx.recipes.inspect import inspect
from tlx.training.checkpoint import Checkpoints
from tlx.training.phases import state_in
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow
STEPS = 12  # of two epochs of 6


@pytest.fixture
def config(place: Path) -> Any:
    """Adafactor, which factors the tiny checkpoint's kernels, and Lion for the head; the embeddings and the lower block
    join at the second epoch."""
    tiny.write_reviews(place / "few.csv", 170)
    made = tiny.config(place / "checkpoint", place / "few.csv")
    made.features.cache = "off"
    made.params.rules = (("heads/.*", "head"),)
    made.params.groups.head = {"learning_rate": 1e-3, "optimizer": "lion", "schedule": "step"}
    made.params.phases = ({"freeze": "first:1"}, {"start": 1.0})
    made.params.layer_decay, made.params.layer_decay_floor = 0.5, 0.4
    made.optimizer.update(
        {"name": "adafactor", "min_dim_size_to_factor": 16, "learning_rate": 1e-2, "clip_value": 0.01}
    )
    made.optimizer.update({"schedule": "one_cycle", "warmup_steps": 4, "drop": 0.5, "drop_every": 3})
    made.train.update({"epochs": 2.0, "evaluate_every": 0.5, "monitor": "validation/brier", "log_every": 1})
    return made


@pytest.mark.long
@pytest.mark.parametrize("phases", [1, 2])
def test_resumed_to_the_same_bits(phases: int, config: Any, tmp_path: Path) -> None:
    """Stopped in the last phase, between two checkpoints; factored moments are among what is compared. The checkpoint
    that is chosen has the lowest Brier score."""
    config.params.phases = config.params.phases if phases == 2 else ()
    whole = run(config, tmp_path / "whole")
    tiny.run_and_stop(finetune.build(config, tmp_path / "run"), 10)
    assert run(config, tmp_path / "run")["metrics"] == whole["metrics"]
    job = finetune.build(config, tmp_path / "whole")
    assert job.schedule.mode == "min" and job.schedule.total == STEPS
    ends = [states(config, tmp_path / name) for name in ("whole", "run")]
    assert ends[0].keys() == ends[1].keys() and any("v_row" in name for name in ends[0])
    assert not [name for name in ends[0] if not np.array_equal(ends[0][name], ends[1][name])]
    scores = {
        line["step"]: line["validation/brier"]
        for line in read_metrics(tmp_path / "whole")
        if "validation/brier" in line
    }
    assert len(scores) == 4 and whole["metrics"]["validation/brier"] == pytest.approx(min(scores.values()), rel=1e-5)


def states(config: Any, folder: Path) -> dict[str, np.ndarray]:
    """Every leaf of the last state, in the shapes of the last phase."""
    job = finetune.build(config, folder)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore(STEPS, job.layout.abstract(state_in(job.phases, job.state)))
    return {jax.tree_util.keystr(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}


@pytest.mark.long
def test_inspect_counts_the_factored_moments(config: Any) -> None:
    """By hand: of a matrix from 16 × 16 on a row, a column and a placeholder; of other leaves the whole and two
    placeholders; of Lion one number a parameter; and the counts, an int32 of each optimizer and of each schedule."""
    config.params.phases = ()
    found = inspect(config)
    floats = 0
    for leaf in found.leaves:
        size = int(np.prod(leaf.shape))
        if leaf.group == "head":
            floats += size
        else:
            sizes = sorted(leaf.shape)[-2:]
            floats += sum(sizes) + 1 if len(sizes) == 2 and sizes[0] >= 16 else size + 2
    assert found.bytes["optimizer state"] == 4 * (floats + 4)


def test_the_floor_reaches_the_groups(config: Any) -> None:
    """BERT's convention: the top block 1, below it 0.5, the embeddings 0.25, which the floor lifts to 0.4."""
    config.params.phases = ()
    rates = {leaf.path: leaf.multiplier for leaf in inspect(config).leaves}
    assert rates["backbone/encoder/layer/1/output/dense/kernel"] == 1
    assert rates["backbone/encoder/layer/0/output/dense/kernel"] == 0.5
    assert rates["backbone/embeddings/word_embeddings/embedding"] == 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.name": "adamx"}, r"the optimizer is 'adamx'; tlx has adam, adamw, .*, adagrad\."),
        (
            {"optimizer.b2": 0.9, "optimizer.name": "sgd"},
            "'b2' is 0.9, which applies only to adam, .*; sgd takes momentum",
        ),
        (
            {"optimizer.nesterov": True},
            "'nesterov' is True, which applies only to sgd, rmsprop; adamw takes b1, b2, eps",
        ),
        ({"optimizer.schedule": "cosin"}, "config.optimizer.schedule is 'cosin'; tlx has constant, .*, exponential"),
        ({"optimizer.power": 2.0}, "'power' is 2.0, which applies only to polynomial, inverse; the schedule is linear"),
        (
            {"params.phases": ({"schedule": "cosine"},), "optimizer.cycles": 3},
            "'cycles' is 3, which applies only to cosine_restarts; the schedule is cosine, linear",
        ),
        ({"optimizer.schedule": "cosine_restarts", "optimizer.cycles": 99999}, "cannot be split into 99999 cycles"),
        ({"optimizer.clip": -1.0}, "config.optimizer.clip is -1.0; it is above 0, or 0 for none"),
        ({"optimizer.clip_value": -0.1}, "config.optimizer.clip_value is -0.1; it is above 0, or 0 for none"),
        ({"params.layer_decay_floor": 0.1}, "layer_decay_floor is 0.1, and config.params.layer_decay is 1"),
        (
            {"train.monitor": "validation/f2"},
            r"a classification with 2 outputs has validation/loss, .*validation/ece\.",
        ),
        ({"train.monitor": "validation/top_5_accuracy"}, "a classification with 2 outputs has"),
        ({"train.monitor": "brier"}, "config.train.monitor is 'brier'; a classification with 2 outputs has"),
        (
            {"train.monitor": "validation/kappa", "head.kind": "regression", "data.label": "score"},
            r"a regression with 1 output has validation/loss, validation/r2, .*, validation/kendall\.",
        ),
    ],
)
def test_one_sentence_before_training(change: dict[str, Any], message: str, place: Path, tmp_path: Path) -> None:
    made = tiny.config(place / "checkpoint", place / "reviews.csv")
    made.update_from_flattened_dict(change)
    with pytest.raises(TlxError, match=message):
        finetune.build(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_by_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a user types it."""
    words = [
        "inspect", "configs/text_file.py",
        f"model.checkpoint={place}/checkpoint", f"data.train=csv:{place}/reviews.csv",
        "data.max_length=16", "parallel.data=1", "optimizer.name=lamb",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main([*words, "optimizer.momentum=0.5"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert (
        "the optimizer setting 'momentum' is 0.5, which applies only to sgd, rmsprop; lamb takes b1, b2, eps."
        in message
    )
