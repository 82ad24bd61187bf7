"""A linen module of a script's own in the backbone's place: rules, phases, checkpoints and a resumed run."""

import itertools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tests import tiny
from tlx.data.batches import Batches
from tlx.data.plan import TrainingPlan
from tlx.errors import TlxError
from tlx.models.cnn import EPSILON, ConvNet
from tlx.params.paths import flatten
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune, trained
from tlx.recipes.custom import custom_backbone
from tlx.recipes.trained import load_run
from tlx.runs.evaluate import evaluate
from tlx.runs.predictions import rows_of as predicted_rows
from tlx.training.checkpoint import Checkpoints

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


@pytest.mark.long
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
    best, same = flatten(job.best().params), flatten(again.best().params)
    assert all(np.array_equal(best[path], same[path]) for path in started)
    with pytest.raises(TlxError, match="is Convolutions, a custom module; open the run in its script"):
        load_run(tmp_path / "whole")


NETWORK = ConvNet((3, 4), 6)
BATCHES, ROWS = 3, 32  # of the recalibration


def normalized(workdir: Path, module: nn.Module = NETWORK, **changes: Any) -> finetune.Job:
    """A network with batch normalization; 200 examples in batches of 32, the last of them padded."""
    made = config()
    made.data.split_seed = 3
    with made.unlocked():
        made.update(changes)
    return finetune.build(made, workdir, backbone=custom_backbone(module, ConvNet.BLOCKS))


def rows_of(job: finetune.Job, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scaled images and labels of the first batches, without the rows of padding."""
    train = job.tasks["default"].splits["train"]
    plan = TrainingPlan(train.lengths, job.tasks["default"].batch_size, job.seed, job.inputs.length_buckets)
    found = []
    for step in range(steps):
        batch = Batches(train, plan, steps)[step]
        given, _ = job.inputs.prepare({name: jnp.asarray(field) for name, field in batch.items()}, None)
        found.append((np.asarray(given["pixel_values"])[batch["valid"]], batch["label"][batch["valid"]]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param({"data": 1}, marks=pytest.mark.long),
        {"data": 2},
        pytest.param({"data": 8, "mode": "pmap"}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_batch_normalization_as_in_a_loop_of_flax(parallel: dict[str, Any], tmp_path: Path) -> None:
    """SGD over an epoch and a step, with a batch that tlx pads, against linen and optax alone."""
    job = normalized(
        tmp_path / "run", params={"phases": (), "groups": {"default": {"weight_decay": 0.0}}},
        parallel=parallel,
        optimizer={"name": "sgd", "learning_rate": 0.05, "schedule": "constant", "warmup_fraction": 0.0, "clip": 0.0},
    )  # fmt: skip
    steps = job.schedule.steps_per_epoch + 1
    start = jax.device_get(job.state.variables)
    params: Any = {"network": start.params["backbone"], "head": start.params["heads"]["default"]["output"]}
    statistics: Any = start.model_state["batch_stats"]["backbone"]
    optimizer = optax.sgd(0.05, momentum=0.9)
    moments = optimizer.init(params)

    def loss(params: Any, statistics: Any, images: Any, labels: Any) -> Any:
        features, after = NETWORK.apply(
            {"params": params["network"], "batch_stats": statistics}, images, False, mutable=["batch_stats"]
        )
        logits = features @ params["head"]["kernel"] + params["head"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), after["batch_stats"]

    state, losses = job.state, []
    for batch in itertools.islice(job.batches(), steps):
        state, metrics = job.phases[0].step(state, batch)
        losses.append(float(metrics["loss"]))
    sizes = set()
    gradient_of = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for index, (images, labels) in enumerate(rows_of(job, steps)):
        (value, statistics), gradient = gradient_of(params, statistics, images, labels)
        updates, moments = optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        assert losses[index] == pytest.approx(float(value), rel=1e-4), index
        sizes.add(len(labels))
    assert len(sizes) == 2  # a whole batch and a padded one
    for path, leaf in flatten(params["network"]).items():
        np.testing.assert_allclose(flatten(state.params["backbone"])[path], leaf, rtol=1e-3, atol=1e-5, err_msg=path)
    for path, leaf in flatten(statistics).items():
        found = flatten(state.model_state["batch_stats"]["backbone"])[path]
        np.testing.assert_allclose(found, leaf, rtol=1e-4, atol=1e-5, err_msg=path)


def recomputed(params: Any, batches: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Float64 means over the batches, by their sizes, of each batch's mean and variance in each norm."""
    total: dict[str, np.ndarray] = {}
    count = sum(len(labels) for _, labels in batches)
    for images, _ in batches:
        x = images.astype(np.float64)
        for name in ("block_0", "block_1"):
            block = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[name])
            padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
            x = np.einsum("nyxcij,ijcd->nyxd", windows, block["conv"]["kernel"]) + block["conv"]["bias"]
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            for statistic, value in (("mean", mean), ("var", var)):
                path = f"{name}/norm/{statistic}"
                total[path] = total.get(path, 0.0) + value * len(images) / count
            x = (x - mean) / np.sqrt(var + EPSILON) * block["norm"]["scale"] + block["norm"]["bias"]
            n, h, w, c = x.shape
            x = np.maximum(x, 0)[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
    return total


@pytest.mark.slow
@pytest.mark.long
def test_averaged_with_batch_normalization_in_phases_and_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    average = {"kind": "ema", "decay": 0.8, "recalibrate_batches": BATCHES}
    phases = ({"trainable": "heads"}, {"start": 1.0, "trainable": "last:2"}, {"start": 2.0})
    job, seen = normalized(tmp_path / "whole", average=average, params={"phases": phases}), []
    tiny.before_each_step(
        job, lambda state: seen.append({path: np.array(leaf) for path, leaf in flatten(state.model_state).items()})
    )
    summary = job.run(quiet=True)
    each = job.schedule.steps_per_epoch
    for block, since in {"block_0": 2 * each, "block_1": each}.items():  # a frozen part's statistics stay to the bit
        for name in ("mean", "var"):
            path = f"batch_stats/backbone/{block}/norm/{name}"
            assert seen[since][path].tobytes() == seen[0][path].tobytes(), path
            assert not np.array_equal(seen[since + 1][path], seen[0][path]), path

    with Checkpoints(tmp_path / "whole" / "checkpoints", read_only=True) as checkpoints:
        target = job.layout.abstract(job.phases[-1].enter(normalized(tmp_path / "shape", average=average).state))
        last = checkpoints.restore(3 * each, target)
    averaged, learning = last.with_eval_params().variables, flatten(last.model_state["batch_stats"]["backbone"])
    found = flatten(averaged.model_state["batch_stats"]["backbone"])
    for path, value in recomputed(averaged.params["backbone"], rows_of(job, BATCHES)).items():
        np.testing.assert_allclose(found[path], value, rtol=1e-3, atol=1e-5, err_msg=path)
        assert not np.allclose(learning[path], value, rtol=1e-2), path

    best = job.best()
    for split in ("validation", "test"):
        for name, value in job.evaluate(best, split).items():
            assert summary["metrics"][name] == pytest.approx(value, rel=1e-6), name
    images = [job.datasets["default"].tables["test"].column("image")[row] for row in range(5)]
    answered = job.predictions(best, "test")[:5]
    names = [job.tasks["default"].head.labels[i] for i in answered.argmax(-1)]
    assert [row["predicted"] for row in predicted_rows(job.trained(), images)] == names
    tiny.run_and_stop(normalized(tmp_path / "stopped", average=average, params={"phases": phases}), each + 3)
    again = normalized(tmp_path / "stopped", average=average, params={"phases": phases})
    assert again.run(quiet=True)["metrics"] == summary["metrics"]
    assert jax.tree.all(jax.tree.map(np.array_equal, best, again.best()))
    with pytest.raises(TlxError, match=r"this model has batch_stats beside its parameters"):
        write_folder(tmp_path / "out", job.model, best.params)
    # No family of checkpoints has a model state, so commands read one only with this network in a family's place.
    file = tmp_path / "whole" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "backbone": None}))
    monkeypatch.setattr(trained, "describe_model", lambda *_: job.model)
    assert jax.tree.all(jax.tree.map(np.array_equal, best, load_run(tmp_path / "whole").variables))
    for split, evaluated in evaluate(tmp_path / "whole").items():
        for name, value in evaluated.metrics.items():
            assert summary["metrics"][f"{split}/{name}"] == pytest.approx(value, rel=1e-5), name


class Unmasked(nn.Module):
    """As most flax code has it: no mask, `use_running_average` given when the layer is made."""

    @nn.compact
    def __call__(self, pixel_values: jax.Array, deterministic: bool) -> jax.Array:
        x = nn.Conv(3, (3, 3), name="low")(pixel_values)
        return nn.BatchNorm(use_running_average=deterministic, name="norm")(x).mean(axis=(1, 2))


def test_padding_that_would_enter_the_statistics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=r"need rows of padding, which would enter the batch_stats of Unmasked"):
        normalized(tmp_path / "run", Unmasked())
    job = normalized(tmp_path / "run", Unmasked(), params={"phases": ()}, train={"batch_size": 20})
    assert flatten(job.state.model_state).keys() == {f"batch_stats/backbone/norm/{name}" for name in ("mean", "var")}


class RunningMean(nn.Module):
    """A state that is not batch norm's."""

    @nn.compact
    def __call__(self, pixel_values: jax.Array, deterministic: bool, valid: Any = None) -> jax.Array:
        mean = self.variable("running", "mean", jnp.zeros, ())
        if not deterministic:
            mean.value = 0.9 * mean.value + 0.1 * pixel_values.mean()
        return nn.Dense(3, name="dense")(pixel_values.mean(axis=(1, 2)) - mean.value)


def test_under_pmap_a_state_that_is_not_batch_norms_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=r"parallel.mode is 'pmap', .* updates running/backbone/mean, which is not the"):
        normalized(tmp_path / "run", RunningMean(), parallel={"data": 2, "mode": "pmap"}, params={"phases": ()})
    assert not (tmp_path / "run").exists()
    normalized(tmp_path / "run", RunningMean(), parallel={"data": 2}, params={"phases": ()})


class Growing(nn.Module):
    @nn.compact
    def __call__(self, pixel_values: jax.Array, deterministic: bool, valid: Any = None) -> jax.Array:
        x = nn.Dense(3, name="low")(pixel_values.mean(axis=(1, 2)))
        self.sow("losses", "size", x.sum())
        return x


def test_a_collection_that_grows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=r"change in training: losses/backbone/size/1 has another shape"):
        normalized(tmp_path / "run", Growing())
