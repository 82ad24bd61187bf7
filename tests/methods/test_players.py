"""A player that takes no part in an update stays as it is, to the bit, and every pass draws numbers of its own.

The parameters are laid out as a model's: a backbone, two heads and two adapters.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.methods.api import Carried, Context, Update
from tlx.optim.groups import Group, make_optimizer
from tlx.params.paths import flatten
from tlx.training.state import State, assign_players, init_state
from tlx.training.step import make_train_step

ROWS, WIDTH = 6, 3
random = np.random.default_rng(5)
BATCH = {"train": {"x": random.standard_normal((ROWS, WIDTH)), "y": random.standard_normal(ROWS)}}
PLACES = ("backbone/dense", "heads/a", "heads/b", "adapters/x/dense", "adapters/y/dense")
PLAYERS: Any = {
    "model": (("backbone/.*", True), ("heads/a/.*", True)),
    "head_b": (("heads/b/.*", True),),
    "adapter_x": (("adapters/x/.*", True),),
    "adapter_y": (("adapters/y/.*", True),),
}
KEY = jax.random.key(7)


def started() -> Any:
    tree: Any = {"backbone": {}, "heads": {}, "adapters": {"x": {}, "y": {}}}
    for place in PLACES:
        *parents, last = place.split("/")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = {"kernel": jnp.asarray(random.standard_normal((WIDTH, WIDTH)))}
    return tree


PARAMS = started()


def losses(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """Squares in which every parameter has a part, so that each would have a gradient, were it asked for."""
    rows = batch["train"]
    hidden = rows["x"] @ (
        params["backbone"]["dense"]["kernel"] + sum(params["adapters"][name]["dense"]["kernel"] for name in "xy")
    )
    answers = sum((hidden @ params["heads"][name]["kernel"]).sum(1) for name in "ab")
    return {"squares": (((answers - rows["y"]) ** 2).sum(), jnp.asarray(float(len(answers))))}, carried


def after(players: tuple[tuple[str, ...], ...], state: State, optimizers: Any, accumulate: int, repeat: int) -> State:
    """One step, of an update for each tuple of players."""
    updates = tuple(Update(losses, moved, name=f"update_{i}", repeat=repeat) for i, moved in enumerate(players))
    player_of = assign_players(state.params, dict.fromkeys(flatten(state.params), "default"), PLAYERS)
    method: Any = SimpleNamespace(updates=updates)
    step = jax.jit(make_train_step(method, optimizers, player_of, clip=1.0, accumulate=accumulate))
    return jax.device_get(step(state, BATCH, KEY)[0])


def of_player(state: State, player: str) -> dict[str, np.ndarray]:
    """All that a player has: parameters, moments, counts."""
    places = [selector.removesuffix("/.*") for selector, _ in PLAYERS[player]]
    params = {path: leaf for path, leaf in flatten(state.params).items() if path.startswith(tuple(places))}
    assert params
    return {**params, **{f"optimizer/{path}": leaf for path, leaf in flatten(state.opt_state[player]).items()}}


@pytest.mark.parametrize(
    ("playing", "optimizer", "accumulate", "repeat"),
    [
        ((("model",), ("head_b",)), "adamw", 1, 1),
        ((("adapter_x",),), "sgd", 2, 2),
        pytest.param((("head_b", "adapter_y"),), "adamw", 1, 2, marks=pytest.mark.long),
        pytest.param((("adapter_x",), ("adapter_x", "head_b")), "rmsprop", 2, 1, marks=pytest.mark.long),
    ],
)
def test_who_takes_no_part_does_not_move_by_one_bit(
    playing: tuple[tuple[str, ...], ...], optimizer: str, accumulate: int, repeat: int, x64: None
) -> None:
    """After a step in which all of them play, so that decay, momentum and counts are there to move it."""
    tx = make_optimizer(
        PARAMS, (), {"default": Group(weight_decay=0.1)}, learning_rate=0.01, schedule=lambda s: 1 / (1 + s),
        name=optimizer, momentum=None if optimizer == "adamw" else 0.9,
    )  # fmt: skip
    optimizers = dict.fromkeys(PLAYERS, tx)
    player_of = assign_players(PARAMS, dict.fromkeys(flatten(PARAMS), "default"), PLAYERS)
    state = after((tuple(PLAYERS),), init_state(PARAMS, player_of, optimizers, {}), optimizers, accumulate, 1)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state["adapter_y"]) if np.ndim(leaf)]
    assert moments and all(np.abs(leaf).max() > 0 for leaf in moments)
    found = after(playing, state, optimizers, accumulate, repeat)
    for player in PLAYERS:
        plays = any(player in players for players in playing)
        old, new = of_player(state, player), of_player(found, player)
        for path, leaf in new.items():
            same = np.asarray(leaf).tobytes() == np.asarray(old[path]).tobytes()
            assert same != plays, f"{player}: {path}"


def drawing(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """Writes its key down."""
    seen, at = carried.method["seen"], carried.method["at"]
    seen = seen.at[at].set(jax.random.key_data(context.key))
    counted = {"none": (0 * params["w"], jnp.ones(()))}
    return counted, dataclasses.replace(carried, method={"seen": seen, "at": at + 1})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_pass_has_a_key_of_its_own(accumulate: int) -> None:
    """Over steps, updates, repetitions and micro-batches; and it is the step's, wherever a run begins."""
    updates = (Update(drawing, ("w",), name="once"), Update(drawing, ("w",), name="again"),
               Update(drawing, ("w",), name="thrice", repeat=3))  # fmt: skip
    optimizers = {"w": make_optimizer({"w": jnp.zeros(())}, (), {"default": Group()}, learning_rate=0.1)}
    method: Any = SimpleNamespace(updates=updates)
    step = jax.jit(make_train_step(method, optimizers, {"w": "w"}, accumulate=accumulate))
    steps, each = 4, 5 * accumulate

    def keys(first: int) -> np.ndarray:
        nothing = {"seen": jnp.zeros((steps * each, 2), jnp.uint32), "at": jnp.zeros((), jnp.int32)}
        state = init_state({"w": jnp.zeros(())}, {"w": "w"}, optimizers, nothing)
        state = dataclasses.replace(state, step=jnp.asarray(first, jnp.int32))
        for _ in range(first, steps):
            state, _ = step(state, BATCH, KEY)
        assert int(state.method_state["at"]) == (steps - first) * each
        return np.asarray(state.method_state["seen"])[: (steps - first) * each]

    whole = keys(0)
    assert len(np.unique(whole, axis=0)) == steps * each
    np.testing.assert_array_equal(keys(2), whole[2 * each :])
