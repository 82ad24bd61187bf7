"""Phases against AdamW written out in NumPy, each leaf with a count of its own that begins when it begins to learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.params.paths import flatten
from tlx.training.phases import Phase, carry_over, phase_of, trainable_since
from tlx.training.state import State, assign_players, init_state, leaves_of

FIRSTS = (0, 3, 5, 7)
# What each phase freezes: b comes late, a rests from 5 to 7 and begins anew, c changes its group at 5.
RULES: tuple[Any, ...] = (
    (("b/.*", "frozen"), ("c/.*", "fast")),
    (("c/.*", "fast"),),
    (("a/.*", "frozen"),),
    (),
)
GROUPS = {"default": Group(1.0, 0.1), "fast": Group(3.0, 0.0)}


def rate(step: Any) -> Any:
    return 0.1 / (1.0 + step)


def gradient(path: str, step: int) -> np.ndarray:
    return np.random.default_rng([step, ord(path[0])]).normal(size=3)


def numpy_run(params: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
    params, moments = dict(params), {}
    for step in range(steps):
        phase = max(i for i, first in enumerate(FIRSTS) if first <= step)
        for path, p in params.items():
            group = next((g for selector, g in RULES[phase] if selector[0] == path[0]), "default")
            if group == "frozen":
                moments.pop(path, None)
                continue
            if path not in moments or moments[path][0] != group:
                moments[path] = (group, 0, np.zeros(3), np.zeros(3))
            _, t, m, v = moments[path]
            g, t = gradient(path, step), t + 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            moments[path] = (group, t, m, v)
            lr, decay = rate(step) * GROUPS[group].multiplier, GROUPS[group].weight_decay
            params[path] = p - lr * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)
    return params


def test_every_leaf_has_its_own_course(x64: None) -> None:
    params = {name: {"kernel": jnp.asarray(gradient(name, 99))} for name in "abc"}
    expected = numpy_run({path: np.asarray(leaf) for path, leaf in flatten(params).items()}, 10)
    assigned = [assign_groups(params, rules, GROUPS) for rules in RULES]
    since = trainable_since(assigned, FIRSTS)
    assert since[3] == {"a/kernel": 7, "b/kernel": 3, "c/kernel": 5}
    state: State | None = None
    for index, (first, last) in enumerate(zip(FIRSTS, (*FIRSTS[1:], 10), strict=True)):
        player_of = assign_players(params, assigned[index], {"model": ((".*", True),)})
        tx = make_optimizer(params, RULES[index], GROUPS, learning_rate=1.0, schedule=rate, since=since[index])
        begun = init_state(params if state is None else state.params, player_of, {"model": tx}, {})
        state = begun if state is None else carry_over(state, begun)
        for step in range(first, last):
            own = leaves_of(state.params, player_of, ("model",))
            slopes = {name: {"kernel": None if own[name]["kernel"] is None else gradient(name, step)} for name in "abc"}
            updates, moments = tx.update(slopes, state.opt_state["model"], own)
            changed = flatten(optax.apply_updates(own, updates))
            state = State(
                state.step + 1,
                {name: {"kernel": changed.get(f"{name}/kernel", state.params[name]["kernel"])} for name in "abc"},
                {"model": moments}, {},
            )  # fmt: skip
    assert state is not None and int(state.step) == 10
    for path, value in expected.items():
        np.testing.assert_allclose(flatten(state.params)[path], value, rtol=1e-12, err_msg=path)


def test_at_a_border_the_phase_that_ends_counts() -> None:
    phases = [Phase(first, lambda state: state, lambda *given: given) for first in (0, 3, 5)]
    assert [phase_of(phases, steps) for steps in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]


def test_moments_of_what_rests_are_gone() -> None:
    """A phase that freezes a leaf keeps nothing of it."""
    params = {"a": {"kernel": jnp.ones(3)}, "b": {"kernel": jnp.ones(5)}}
    states = []
    for rules in ((), (("b/.*", "frozen"),)):
        player_of = assign_players(params, assign_groups(params, rules, GROUPS), {"model": ((".*", True),)})
        tx = make_optimizer(params, rules, GROUPS, learning_rate=1.0)
        states.append(init_state(params, player_of, {"model": tx}, {}))
    found = carry_over(states[0], states[1])
    assert sum(leaf.size for leaf in jax.tree.leaves(found.opt_state) if leaf.ndim) == 2 * 3
