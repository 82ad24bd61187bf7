"""A method of a script in a run: parameters of its own, a second stream, a phase, pseudo-labels; resumed to the bit.

The method is a domain discriminator on the head's logits with two players, followed by self-training on pseudo-labels.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.losses.supervised import cross_entropy
from tlx.methods.api import Batch, Carried, Context, Losses, Update
from tlx.models.forward import forward
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.methods import MethodInputs
from tlx.training.checkpoint import Checkpoints
from tlx.training.tasks import Stream
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow


class Adversarial:
    """A linear discriminator of source and target logits moves against the model."""

    streams = ("train", "target")
    players: Mapping[str, Any] = {"discriminator": (("aux/.*", True),), "model": ((".*", True),)}
    before_epoch = None

    def __init__(self, inputs: MethodInputs):
        self.inputs = inputs
        self.updates = (
            Update(self.model_loss, ("model",), name="model"),
            Update(self.domain_loss, ("discriminator",), name="domain", repeat=2),
        )

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        classes = shapes["heads"]["default"]["output"]["kernel"].shape[1]
        return {"discriminator": {"kernel": 0.1 * jax.random.normal(key, (classes, 2))}}, {"seen": jnp.zeros(())}

    def logits(self, params: Any, batch: Batch, stream: str, carried: Carried, context: Context) -> tuple[Any, Any]:
        inputs, rows = self.inputs.prepare(batch[stream], context.key)
        output, _ = forward(self.inputs.model, params, carried.model, inputs, context)
        return output.logits["default"], rows

    def model_loss(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        logits, rows = self.logits(params, batch, "train", carried, context)
        seen = carried.method["seen"] + rows["valid"].sum()
        loss = cross_entropy(logits, rows["label"], rows["valid"].astype(jnp.float32))
        return {"task": loss}, dataclasses.replace(carried, method={"seen": seen})

    def domain_loss(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        losses = {}
        for label, stream in enumerate(self.streams):
            logits, rows = self.logits(params, batch, stream, carried, context)
            logits = logits @ params["aux"]["discriminator"]["kernel"]
            labels = jnp.full(len(logits), label)
            losses[stream] = cross_entropy(logits, labels, rows["valid"].astype(jnp.float32))
        return losses, carried


class SelfTraining(Adversarial):
    """Cross entropy of the target's pseudo-labels, which are the model's predictions before each epoch."""

    streams = ("target",)
    players: Mapping[str, Any] = {"model": ((".*", True),)}

    def __init__(self, inputs: MethodInputs):
        super().__init__(inputs)
        self.updates = (Update(self.pseudo_loss, ("model",)),)
        self.before_epoch = self.relabel  # type: ignore[assignment]

    def init(self, key: jax.Array, shapes: Any) -> tuple[Any, Any]:
        return {}, {"labels": jnp.zeros(60, jnp.int32)}

    def relabel(self, state: Any, params: Any, epoch: int, predictions: Any) -> Any:
        return {"labels": predictions("target").argmax(-1).astype(np.int32)}

    def pseudo_loss(self, params: Any, batch: Batch, carried: Carried, context: Context) -> tuple[Losses, Carried]:
        logits, rows = self.logits(params, batch, "target", carried, context)
        labels = carried.method["labels"][rows["position"]]
        return {"pseudo": cross_entropy(logits, labels, rows["valid"].astype(jnp.float32))}, carried


METHODS: Any = {"adversarial": (Adversarial, {}), "self_training": (SelfTraining, {})}


def job_of(config: Any, place: Path, workdir: Path) -> Any:
    config = config.copy_and_resolve_references()
    config.method.name = "adversarial"
    config.train.epochs, config.train.evaluate_every, config.train.batch_size = 3.0, 0.5, 20
    config.params.phases = ({}, {"start": 1.5, "method": "self_training"})
    target = tiny.write_reviews(place / "target.csv", 60, seed=9)
    made = finetune.build(_plain(config, target), place / "labels" / workdir.name).tasks["default"].splits["train"]
    return finetune.build(config, workdir, methods=METHODS, streams={"target": Stream(made, 20)})


def _plain(config: Any, target: Path) -> Any:
    plain = config.copy_and_resolve_references()
    plain.method.name, plain.params.phases, plain.data.train = "finetune", (), f"csv:{target}"
    plain.data.validation, plain.data.test_fraction = config.data.train, 0.0
    return plain


def end(job: Any) -> tuple[dict[str, Any], Any]:
    with Checkpoints(job.run_directory / "checkpoints") as checkpoints:
        step = checkpoints.newest()
        assert step == job.schedule.total
        return checkpoints.meta(step), {
            item: checkpoints._manager.restore(step, args=_items(checkpoints, step, item))[item]
            for item in ("params", "aux", "train_state")
        }


def _items(checkpoints: Any, step: int, item: str) -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.Composite(**{item: ocp.args.StandardRestore()})


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    job = job_of(config, place, tmp_path_factory.mktemp("methods") / "whole")
    job.run(quiet=True)
    return job


@pytest.mark.long
def test_parameters_of_a_method_are_trained_saved_and_left_out_of_the_model(whole: Any) -> None:
    _, items = end(whole)
    assert set(flatten(items["aux"])) == {"discriminator/kernel"}
    assert "aux" not in items["params"] and "aux" not in whole.best().params
    start = 0.1 * jax.random.normal(jax.random.key(whole.seed), (2, 2))  # as `init` makes it
    assert np.abs(items["aux"]["discriminator"]["kernel"] - start).max() > 1e-3
    # the second phase has one player, whose optimizer state goes on; the discriminator's is gone
    assert set(items["train_state"]["opt_state"]) == {"model"}
    assert "labels" in items["train_state"]["method_state"]
    logged = {name for row in read_metrics(whole.run_directory) for name in row}
    assert {"train/model/loss", "train/domain/loss", "train/domain/loss/target", "train/loss"} <= logged


@pytest.mark.long
def test_in_the_second_phase_the_first_methods_parameters_do_not_move(whole: Any) -> None:
    with Checkpoints(whole.run_directory / "checkpoints") as checkpoints:
        steps = checkpoints.steps()
        kernels = [
            checkpoints._manager.restore(step, args=_items(checkpoints, step, "aux"))["aux"]["discriminator"]["kernel"]
            for step in steps
            if step >= 1.5 * whole.schedule.steps_per_epoch
        ]
    assert kernels and all(np.array_equal(kernels[0], kernel) for kernel in kernels)


@pytest.mark.long
def test_streams_of_the_same_examples_have_orders_of_their_own(whole: Any) -> None:
    names = ("train", "target")
    twice = dataclasses.replace(whole, streams=dict.fromkeys(names, whole.streams["target"]))
    seen = {name: [] for name in names}
    for batch in itertools.islice(twice.batches(names=names), 3):
        for name in names:
            seen[name] += np.asarray(batch[name]["position"]).tolist()
    assert all(sorted(positions) == list(range(60)) for positions in seen.values())
    assert seen["train"] != seen["target"]


@pytest.mark.long
def test_a_step_leaves_the_parameters_of_another_phases_method(config: Any, place: Path, tmp_path: Path) -> None:
    """One step of the second phase, with decay and with what the first phase left of momentum."""
    job = job_of(config, place, tmp_path / "run")
    first, second = job.phases
    state, _ = first.step(job.state, next(job.batches()))
    before = jax.device_get(state.params)
    state, _ = second.step(second.enter(state), next(job.batches(names=second.streams)))
    for path, leaf in flatten(jax.device_get(state.params)).items():
        if "key/bias" not in path:
            same = leaf.tobytes() == flatten(before)[path].tobytes()
            assert same == path.startswith("aux/"), path


@pytest.mark.long
@pytest.mark.parametrize("at", [5, 26])  # in the first phase, and within an epoch of the second
def test_stopped_and_resumed_to_the_bit(at: int, whole: Any, config: Any, place: Path, tmp_path: Path) -> None:
    tiny.run_and_stop(job_of(config, place, tmp_path / "run"), at)
    job = job_of(config, place, tmp_path / "run")
    job.run(quiet=True)
    (_, expected), (_, found) = end(whole), end(job)
    for path, leaf in flatten(expected).items():
        assert np.array_equal(leaf, flatten(found)[path]), path


def test_a_stream_or_a_method_that_is_not_there(config: Any, tmp_path: Path) -> None:
    config.method.name = "adversarial"
    with pytest.raises(TlxError, match=r"config\.method\.name is 'adversarial'; tlx has finetune"):
        finetune.build(config, tmp_path / "a")
    with pytest.raises(TlxError, match="reads the stream 'target', which the run lacks"):
        finetune.build(config, tmp_path / "b", methods=METHODS)


def weighted(inputs: MethodInputs) -> Any:
    raise TlxError(f"made with {sorted(inputs.config.method.items())}")


FIELDS: Any = {
    "weighted": (weighted, {"trade_off": 1.0, "schedule": "constant"}),
    "narrow": (weighted, {"trade_off": 0.1, "hidden": 1024}),
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"made with \[\('name', 'weighted'\), \('schedule', 'constant'\), \('trade_off', 1.0\)\]"),
        ({"trade_off": 2}, r"\('trade_off', 2.0\)"),
        ({"tradeoff": 2.0}, "config.method.tradeoff is set, but the method weighted has trade_off, schedule"),
        ({"trade_off": "high"}, "config.method.trade_off is 'high'; its type is float"),
        ({"name": "finetune", "alpha": 1.0}, "config.method.alpha is set, but the method finetune has no fields"),
        ({"name": "narrow"}, "the methods narrow, weighted have different defaults of config.method.trade_off; set it"),
        ({"name": "narrow", "trade_off": 0.5}, r"\('hidden', 1024\).*\('schedule', 'constant'\), \('trade_off', 0.5\)"),
    ],
)
def test_fields_of_a_method(fields: dict[str, Any], message: str, config: Any, tmp_path: Path) -> None:
    """With the defaults that the method declares; a field that no method of the run has is refused."""
    config.method.update({"name": "weighted", **fields})
    config.params.phases = ({}, {"start": 1.0, "method": "weighted"}) if fields.get("name") == "narrow" else ()
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run", methods=FIELDS)
    assert not (tmp_path / "run").exists()
