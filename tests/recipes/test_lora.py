"""A run with LoRA: what moves, stopped and gone on with, inspected, asked again, exported without its adapter."""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tlx.adapters.model import LoraModel
from tlx.cli.main import main
from tlx.models.heads import Head
from tlx.optim.groups import Group, assign_groups
from tlx.params.paths import flatten
from tlx.pretrained.load import abstract_params, from_pretrained
from tlx.recipes import finetune
from tlx.recipes.frozen import frozen_blocks
from tlx.recipes.inspect import inspect
from tlx.recipes.model import adapted, describe_model, group_rules
from tlx.recipes.trained import load_run
from tlx.runs.evaluate import evaluate
from tlx.runs.predictions import predict_inputs

STEPS = 11  # of an epoch


def with_lora(place: Path, rules: Any = ()) -> Any:
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.lora.rank, config.lora.alpha, config.lora.dropout = 4, 16.0, 0.1
    config.train.eval_batch_size = 30  # one shape for all sets
    config.lora.targets = ((".*/1/.*/(query|value)/kernel", True), (".*/1/intermediate/dense/kernel", 2))
    config.optimizer.learning_rate, config.train.epochs, config.params.rules = 2e-2, 2.0, rules
    return config


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run, and beside it `stopped`, what was on the disk in the middle of the second epoch."""
    job = finetune.build(with_lora(place), place / "run")
    taken = 0

    def copying(state: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == STEPS + 4:
            while not (place / "run" / "checkpoints" / str(STEPS)).is_dir():  # it is written while the run goes on
                time.sleep(0.05)
            shutil.copytree(place / "run", place / "stopped")

    tiny.before_each_step(job, copying)
    return place / "run", job.run(quiet=True)


def leaves_of(run: Path) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten(load_run(run).params).items()}


@pytest.mark.slow
def test_adapters_and_heads_move_and_nothing_else(finished: tuple[Path, dict[str, Any]], place: Path) -> None:
    folder, summary = finished
    before = flatten(from_pretrained(place / "checkpoint", heads={})[1])
    after = leaves_of(folder)
    for path, leaf in after.items():
        if path.startswith("backbone/"):
            assert np.array_equal(leaf, before[path]), path
        else:
            assert path.startswith(("adapters/lora/encoder/layer/1/", "heads/")) and leaf.any(), path
    adapters = [leaf.size for path, leaf in after.items() if path.startswith("adapters/")]
    assert len(adapters) == 6 and sum(adapters) == 2 * 4 * (32 + 32) + 2 * (32 + 48)
    assert summary["parameters"]["trainable"] == sum(adapters) + 2 * 32 + 2


@pytest.mark.long
@pytest.mark.slow
def test_gone_on_with_it_ends_with_the_same_bits(finished: tuple[Path, dict[str, Any]], place: Path) -> None:
    folder, summary = finished
    job = finetune.build(with_lora(place), place / "stopped")
    steps: list[int] = []
    tiny.before_each_step(job, lambda state: steps.append(int(state.step)))
    assert job.run(quiet=True)["metrics"] == summary["metrics"]
    assert steps == list(range(STEPS, 2 * STEPS))
    one, other = leaves_of(folder), leaves_of(place / "stopped")
    assert one.keys() == other.keys() and not [path for path in one if not np.array_equal(one[path], other[path])]


@pytest.mark.slow
def test_exported_without_its_adapter_it_answers_alike(finished: tuple[Path, dict[str, Any]], place: Path) -> None:
    """The folder is a plain checkpoint; `tlx evaluate` says what the run itself did."""
    folder, summary = finished
    trained = load_run(folder)
    assert isinstance(trained.model, LoraModel)
    main(["export", str(folder), "--to", str(place / "export")])
    model, params = from_pretrained(place / "export")
    assert not isinstance(model, LoraModel) and "adapters" not in params
    texts = ["a great film", "the plot was dull and grim and cold", "a sweet and warm plot"] * 10
    plain = dataclasses.replace(trained, model=model, params=params)
    np.testing.assert_allclose(predict_inputs(trained, texts), predict_inputs(plain, texts), rtol=0, atol=1e-5)
    base = {**params, "backbone": trained.params["backbone"]}
    assert (
        np.abs(predict_inputs(trained, texts) - predict_inputs(dataclasses.replace(plain, params=base), texts)).max()
        > 0.05
    )
    assert evaluate(folder)["test"].metrics["accuracy"] == pytest.approx(summary["metrics"]["test/accuracy"])


@pytest.mark.slow
def test_inspect_shows_the_adapter(place: Path) -> None:
    leaves = {leaf.path: leaf for leaf in inspect(with_lora(place)).leaves}
    leaf = leaves["adapters/lora/encoder/layer/1/intermediate/dense/lora_b/kernel"]
    assert (leaf.shape, leaf.group, leaf.multiplier, leaf.bytes) == ((2, 48), "default", 1.0, 2 * 48 * 4)
    assert {leaf.group for path, leaf in leaves.items() if path.startswith("backbone/")} == {"frozen"}


@pytest.mark.parametrize(
    ("rules", "learning", "still"),
    [
        ((), (), ("embeddings", "encoder/layer/0")),
        ((("heads/.*", "fast"),), (), ("embeddings", "encoder/layer/0")),
        ((("kind:bias", "default"),), ("bias",), ()),
        ((("adapters/.*", "frozen"),), (), ("embeddings", "encoder/layer/0", "encoder/layer/1")),
        ((("backbone/.*", "default"), ("adapters/.*", "frozen")), ("bias", "kernel", "scale", "embedding"), ()),
    ],
)
def test_rules_beside_an_adapter(rules: Any, learning: tuple[str, ...], still: tuple[str, ...], place: Path) -> None:
    """What the user's rules leave of the backbone is frozen; a block on which an adapter learns keeps its dropout."""
    config = with_lora(place, rules)
    model = adapted(describe_model(place / "checkpoint", config.model, {"default": Head("classification", 2)}), config)
    params = abstract_params(model)
    groups = assign_groups(params, group_rules(config, rules, params, None), {"default": Group(), "fast": Group(3.0)})
    for path, group in groups.items():
        if path.startswith("backbone/"):
            assert (group != "frozen") == path.endswith(learning or ("-",)), path
        elif path.startswith("adapters/"):
            assert group == ("frozen" if "adapters/.*" in dict(rules) else "default"), path
    assert frozen_blocks(model, groups) == tuple(f"backbone/{block}" for block in still)
