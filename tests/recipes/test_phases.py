"""Phases in a run: the courses by name, runs glued by hand, a stop in each phase."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from tests import tiny
from tests.recipes.test_resume import run
from tlx.data.batches import Batches
from tlx.data.plan import TrainingPlan
from tlx.errors import TlxError
from tlx.models.forward import Variables
from tlx.params.paths import flatten, unflatten
from tlx.recipes import defaults, finetune
from tlx.recipes.inspect import inspect
from tlx.recipes.phases import plan_phases, unfreeze_phases
from tlx.training.checkpoint import Checkpoints

STEPS = 12  # an epoch of the runs below is 6
PHASES = (
    {"trainable": "heads"},
    {"start": 0.5, "trainable": "last:1", "learning_rate": 1e-2, "schedule": "constant", "warmup_steps": 0},
    {"start": 1.0},
)
FIRSTS = (0, 3, 6)


def planned(**changes: Any) -> list[Any]:
    config = defaults.finetune()
    config.params.update(changes)
    return plan_phases(config, 2, 10, 60)


def test_one_phase_without_any() -> None:
    (plan,) = planned()
    assert (plan.first, plan.stop, plan.own_schedule) == (0, 60, False)


def test_gradual_unfreezing_is_ulmfits() -> None:
    plans = planned(unfreeze="gradual:1")
    assert [(plan.first, plan.stop, plan.config.params.trainable, plan.own_schedule) for plan in plans] == [
        (0, 10, "heads", False), (10, 20, "last:1", False), (20, 30, "last:2", False), (30, 60, "", False),
    ]  # fmt: skip


def test_probe_then_fine_tune() -> None:
    plans = planned(unfreeze="lp_ft:2.5")
    assert [(plan.first, plan.stop, plan.config.params.trainable, plan.own_schedule) for plan in plans] == [
        (0, 25, "heads", True), (25, 60, "", True),
    ]  # fmt: skip


def test_fine_tune_is_fastais() -> None:
    config = defaults.finetune()
    config.optimizer.learning_rate, config.params.unfreeze = 2e-3, "fine_tune:1"
    first, second = unfreeze_phases(config, 2)
    assert first["trainable"] == "heads" and first["warmup_fraction"] == 0.99
    assert second["learning_rate"] == 1e-3 and second["discriminative"] == (1e-5, 1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": ({"start": 1.0},)}, "phases start at epochs 1; the first is 0"),
        (
            {"phases": ({}, {"start": 2.0}, {"start": 2.0})},
            "start at epochs 0, 2, 2; the first is 0, each a step or more",
        ),
        ({"phases": ({}, {"start": 6.0})}, "the last of 2 phases starts at step 60, and the run has 60"),
        ({"phases": ({"begin": 1.0},)}, "has no field begin; it has start, rules, freeze, train"),
        ({"phases": ({},), "unfreeze": "gradual:1"}, "both define phases; set one"),
        ({"unfreeze": "gradualy:1"}, "unfreeze is 'gradualy:1'; it is gradual:EPOCHS, lp_ft:EPOCHS, fine_tune:EPOCHS"),
        ({"unfreeze": "gradual:0"}, "unfreeze is 'gradual:0'"),
    ],
)
def test_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        planned(**changes)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("phases")
    made = tiny.config(tiny.write_checkpoint(place / "checkpoint"), tiny.write_reviews(place / "reviews.csv", 170))
    made.model.initialise = ("pooler",)
    made.model.hidden_dropout_prob = made.model.attention_probs_dropout_prob = made.model.classifier_dropout = 0.0
    made.features.cache = made.data.packing = "off"
    made.optimizer.clip = 0.0
    made.train.epochs, made.train.evaluate_every = 2.0, 0.5
    made.params.phases = PHASES
    return made


@pytest.fixture(scope="module")
def whole(config: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
    """Parameters before each step and at the end, and the summary."""
    job = finetune.build(config, tmp_path_factory.mktemp("whole") / "run")
    assert (job.schedule.steps_per_epoch, job.schedule.total) == (6, STEPS)
    seen: list[dict[str, np.ndarray]] = []
    tiny.before_each_step(job, lambda state: seen.append({p: np.array(x) for p, x in flatten(state.params).items()}))
    summary = job.run(quiet=True)
    return [*seen, last(config, job.run_directory)], summary


def last(config: Any, run_directory: Path) -> dict[str, np.ndarray]:
    job = finetune.build(config, run_directory)
    with Checkpoints(run_directory / "checkpoints", read_only=True) as checkpoints:
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), job.state.params)
        found = checkpoints.restore_variables(STEPS, Variables(target)).params
    return {path: np.array(leaf) for path, leaf in flatten(found).items()}


def learns(path: str, step: int) -> int | None:
    """Since which step a path learns at this one, by the phases above."""
    if path.startswith("heads/"):
        return 0
    if path.startswith(("backbone/encoder/layer/1/", "backbone/pooler/")):
        return 3 if step >= 3 else None
    return 6 if step >= 6 else None


def test_runs_glued_by_hand(whole: Any, config: Any, tmp_path: Path) -> None:
    """Every leaf by an AdamW of its own, begun when the leaf is; rates by the run's step, but in the second phase."""
    seen, _ = whole
    plain = config.copy_and_resolve_references()
    plain.params.phases = ()
    job = finetune.build(plain, tmp_path / "plain")
    train = job.tasks["default"].splits["train"]
    batches = Batches(
        train, TrainingPlan(train.lengths, job.tasks["default"].batch_size, job.seed, job.inputs.length_buckets), STEPS
    )
    model, head = job.model, job.tasks["default"].head

    @jax.jit
    def slopes(params: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = model.apply({"params": params}, **job.inputs.prepare(batch, None)[0]).logits["default"]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return (losses * batch["valid"]).sum() / batch["valid"].sum()

        return jax.grad(loss)(params)

    assert head.outputs == 2
    states: dict[str, Any] = {}
    for step in range(STEPS):
        before, after = seen[step], seen[step + 1]
        rate = 1e-2 if 3 <= step < 6 else float(job.learning_rate(step))
        gradient = flatten(slopes(unflatten(before), batches[step]))
        for path, leaf in before.items():
            since = learns(path, step)
            if since is None:
                assert np.array_equal(after[path], leaf), path
                continue
            if path.endswith(
                "key/bias"
            ):  # softmax does not see it: its gradient is rounding, which Adam makes steps of
                continue
            adamw = optax.adamw(rate, weight_decay=0.0 if path.endswith(("bias", "scale")) else 0.01)
            state = states.get(path, adamw.init(leaf))
            update, states[path] = adamw.update(gradient[path], state, leaf)
            # An update is as long as the rate; Adam makes more of rounding where a gradient is next to nothing.
            np.testing.assert_allclose(after[path], leaf + update, atol=0.02 * rate, err_msg=f"{path}, step {step}")


def test_a_newly_learning_leaf_begins_as_a_fresh_adamw(whole: Any) -> None:
    """AdamW's first step has the length of the learning rate in every entry that has a gradient."""
    seen, _ = whole
    for path, first, rate in (("backbone/encoder/layer/1/output/dense/kernel", 3, 1e-2),):
        moved = np.abs(seen[first + 1][path] - (1 - rate * 0.01) * seen[first][path])
        assert np.median(moved) == pytest.approx(rate, rel=1e-3)
        assert np.array_equal(seen[first][path], seen[0][path])


@pytest.mark.parametrize("at", [3, *(pytest.param(at, marks=pytest.mark.long) for at in (5, 8))])
def test_stopped_in_any_phase_ends_with_the_same_bits(at: int, whole: Any, config: Any, tmp_path: Path) -> None:
    """At a border and between two; the run goes on from its newest checkpoint, of every third step."""
    tiny.run_and_stop(finetune.build(config, tmp_path / "run"), at)
    assert run(config, tmp_path / "run")["metrics"] == whole[1]["metrics"]
    for path, leaf in last(config, tmp_path / "run").items():
        assert np.array_equal(leaf, whole[0][-1][path]), path


def test_inspect_tells_the_phases(config: Any) -> None:
    """Counted by hand: the head's 66 parameters, the top block and the pooler with it, everything."""
    found = inspect(config)
    leaves = {leaf.path: leaf.bytes // 4 for leaf in found.leaves}
    top = sum(size for path, size in leaves.items() if learns(path, 3) is not None)
    assert [(phase.first, phase.trainable) for phase in found.phases] == [(0, 66), (3, top), (6, sum(leaves.values()))]
    assert found.bytes["gradients"] == 66 * 4 and found.bytes["optimizer state"] >= 66 * 8
