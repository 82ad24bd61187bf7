"""What the items of a checkpoint hold: each part of the state, to the bit, and readable by itself."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.models.forward import Variables
from tlx.parallel.layout import make_layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.fallback import resume
from tlx.training.state import State


def state() -> State:
    """With all that a state can have; no two leaves are equal."""
    numbers = iter(range(100))

    def leaf() -> jax.Array:
        return jnp.arange(3, dtype=jnp.float32) + 10 * next(numbers)

    params = {"backbone": {"kernel": leaf()}, "heads": {"a": leaf()}, "aux": {"discriminator": {"kernel": leaf()}}}
    made = State(
        jnp.asarray(7, jnp.int32), params, {"model": {"mu": leaf()}}, {"centroids": leaf()},
        {"eval_params": {**params, "heads": {"a": None}, "aux": {"discriminator": {"kernel": None}}}},
        {"batch_stats": {"norm": {"mean": leaf()}}}, {"batch_stats": {"norm": {"mean": leaf()}}},
    )  # fmt: skip
    placed: State = jax.device_put(made, make_layout(1).replicated)
    return placed


def test_every_part_comes_back_and_readers_take_the_models_alone(tmp_path: Path) -> None:
    saved, layout = state(), make_layout(1)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(saved, {"loop": {"best": None}})
    items = {entry.name for entry in (tmp_path / "checkpoints" / "7").iterdir() if entry.is_dir()}
    assert items >= {"params", "aux", "model_state", "train_state", "meta"}
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        again = checkpoints.restore(7, layout.abstract(saved))
        model: Any = {name: part for name, part in saved.params.items() if name != "aux"}
        read = checkpoints.restore_variables(7, layout.abstract(Variables(model, saved.model_state)))
        params, statistics = read.params, read.model_state
        with pytest.raises(TlxError, match="holds a model_state, and the model of its run's config has none"):
            checkpoints.restore_variables(7, layout.abstract(Variables(model)))
    assert jax.tree.structure(again) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(saved), jax.tree.leaves(again), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    np.testing.assert_array_equal(params["backbone"]["kernel"], saved.averages["eval_params"]["backbone"]["kernel"])
    np.testing.assert_array_equal(params["heads"]["a"], saved.params["heads"]["a"])
    assert "aux" not in params
    np.testing.assert_array_equal(
        statistics["batch_stats"]["norm"]["mean"], saved.averaged_model_state["batch_stats"]["norm"]["mean"]
    )


def test_a_deletion_that_a_kill_interrupted_is_finished(tmp_path: Path) -> None:
    """Of a step that is no longer kept a part is left; the newest and the best stay, and what was set aside."""
    saved, layout, folder = state(), make_layout(1), tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (7, 9):
            stepped = dataclasses.replace(saved, step=jax.device_put(jnp.asarray(step, jnp.int32), layout.replicated))
            checkpoints.save(stepped, {"loop": {"best": {"step": 7}}, "best": {"step": 7}})
    (folder / "8" / "params").mkdir(parents=True)
    (folder / "6.damaged").mkdir()
    with Checkpoints(folder) as checkpoints:
        resumed = resume(checkpoints, lambda step: layout.abstract(saved))
    assert resumed is not None and int(resumed[0].step) == 9
    assert {entry.name for entry in folder.iterdir()} == {"6.damaged", "7", "9"}


def test_a_save_in_the_background_that_fails(tmp_path: Path) -> None:
    """Its files vanish while it is written; the one before stays whole."""
    saved = state()
    with pytest.raises(TlxError, match=r"could not be written to .*; what was saved before is whole"):  # noqa: SIM117
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            checkpoints.save(saved, {"loop": {"best": None}})
            checkpoints.wait()
            checkpoints.save(dataclasses.replace(saved, step=saved.step + 1), {"loop": {"best": None}})
            for folder in (tmp_path / "checkpoints").glob("8.*"):
                shutil.rmtree(folder, ignore_errors=True)
            checkpoints.wait()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [7]
        checkpoints.restore(7, make_layout(1).abstract(saved))
