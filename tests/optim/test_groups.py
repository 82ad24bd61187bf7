"""Groups against AdamW written out in NumPy (Loshchilov & Hutter 2019, algorithm 2)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tlx.errors import TlxError
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.params.paths import flatten

RULES = (("frozen/.*", "frozen"), ("head/.*", "head"))
GROUPS = {"default": Group(1.0, 0.1), "head": Group(10.0, 0.0)}


def tree(seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed).normal
    return {
        "frozen": {"kernel": draw(size=(3, 2))},
        "body": {"kernel": draw(size=(4, 3)), "bias": draw(size=3), "LayerNorm": {"scale": draw(size=3)}},
        "head": {"kernel": draw(size=(3, 2))},
    }


def numpy_adamw(
    params: dict[str, np.ndarray], gradients: list[dict[str, np.ndarray]], rate: float
) -> dict[str, np.ndarray]:
    params = dict(params)
    moments = {path: (np.zeros_like(p), np.zeros_like(p)) for path, p in params.items()}
    for t, gradient in enumerate(gradients, 1):
        for path, p in params.items():
            if path.startswith("frozen"):
                continue
            g, (m, v) = gradient[path], moments[path]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            moments[path] = m, v
            lr = rate * (10.0 if path.startswith("head") else 1.0)
            decay = 0.1 if path == "body/kernel" else 0.0
            params[path] = p - lr * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)
    return params


@pytest.mark.parametrize("whole", [True, False], ids=["on the full tree", "on the trainable part"])
def test_adamw_by_group(whole: bool, x64: None) -> None:
    params = jax.tree.map(jnp.asarray, tree(0))
    gradients = [jax.tree.map(jnp.asarray, tree(seed)) for seed in range(1, 6)]
    tx = make_optimizer(params, RULES, GROUPS, learning_rate=1e-2)
    expected = numpy_adamw(
        {k: np.asarray(v) for k, v in flatten(params).items()},
        [{k: np.asarray(v) for k, v in flatten(g).items()} for g in gradients],
        1e-2,
    )
    rules = [*RULES, (".*", "default")]
    part, frozen = (params, None) if whole else tlx.partition(params, rules)
    state = tx.init(part)
    for gradient in gradients:
        gradient = gradient if whole else tlx.partition(gradient, rules)[0]
        updates, state = tx.update(gradient, state, part)
        part = optax.apply_updates(part, updates)
    found = flatten(part if whole else tlx.merge(part, frozen))
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-12, err_msg=path)


def test_moments_exist_for_what_learns_and_nothing_else() -> None:
    params = jax.tree.map(jnp.asarray, tree(0))
    for part in (params, tlx.partition(params, [*RULES, (".*", "default")])[0]):
        state = make_optimizer(params, RULES, GROUPS, learning_rate=1e-2).init(part)
        moments = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim > 0)
        learning = sum(leaf.size for path, leaf in flatten(params).items() if not path.startswith("frozen"))
        assert moments == 2 * learning


def test_a_group_that_does_not_exist() -> None:
    with pytest.raises(TlxError, match=r"no group haed in params.groups, which has default, frozen, head"):
        assign_groups(tree(0), (("head/.*", "haed"),), GROUPS)


def test_sgd_is_torchs() -> None:
    """Three steps of the heavy ball with decay in the gradient, written out (torch.optim.SGD's definition)."""
    params = {"a": {"kernel": jnp.array([1.0, -2.0])}, "b": {"bias": jnp.array([3.0])}}
    groups = {"default": Group(weight_decay=0.1)}
    transform = make_optimizer(params, (), groups, learning_rate=0.5, name="sgd", momentum=0.9)
    state, velocity, expected = transform.init(params), {"kernel": 0.0, "bias": 0.0}, jax.tree.map(np.array, params)
    for step in range(3):
        gradient = jax.tree.map(lambda leaf, step=step: jnp.full_like(leaf, 0.3 + step), params)
        updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for room, leaf, decay in (("a", "kernel", 0.1), ("b", "bias", 0.0)):  # a bias is not decayed
            velocity[leaf] = 0.9 * velocity[leaf] + (0.3 + step + decay * expected[room][leaf])
            expected[room][leaf] = expected[room][leaf] - 0.5 * velocity[leaf]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), params, expected)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(TlxError, match=r"the optimizer is 'lyon'; tlx has adam, adamw, .* adagrad\."):
        make_optimizer({}, (), {"default": Group()}, learning_rate=0.1, name="lyon")


def test_a_group_of_its_own_kind() -> None:
    """Its own rate, schedule and optimizer, and multipliers by path: two steps written out."""
    params = {"a": {"kernel": jnp.array([1.0])}, "b": {"kernel": jnp.array([1.0])}, "c": {"kernel": jnp.array([1.0])}}
    groups = {
        "plain": {"learning_rate": 0.1, "optimizer": "sgd"},
        "falling": Group(0.5, optimizer="sgd", schedule=lambda step: 1.0 / (1 + step)),
    }
    rules = (("a/.*", "plain"), ("[bc]/.*", "falling"))
    tx = make_optimizer(
        params, rules, groups, learning_rate=2.0, schedule=lambda step: 1.0 + step, multipliers={"c/kernel": 3.0},
        momentum=0.0,
    )  # fmt: skip
    state, gradient = tx.init(params), jax.tree.map(jnp.ones_like, params)
    for _ in range(2):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["a"]["kernel"], 1 - 0.1 * (1 + 2), rtol=1e-6)  # the run's schedule: 1, 2
    np.testing.assert_allclose(params["b"]["kernel"], 1 - 2.0 * 0.5 * (1 + 1 / 2), rtol=1e-6)
    np.testing.assert_allclose(params["c"]["kernel"], 1 - 3 * 2.0 * 0.5 * (1 + 1 / 2), rtol=1e-6)


def test_late_leaves_count_for_themselves() -> None:
    """A path that learns since step 5 has moments with a count of 0, yet its schedule reads the run's step."""
    params = {"early": {"kernel": jnp.array([1.0])}, "late": {"kernel": jnp.array([1.0])}}
    tx = make_optimizer(
        params, (), {"default": Group()}, learning_rate=1.0, schedule=lambda step: 0.1 * step,
        since={"late/kernel": 5},
    )  # fmt: skip
    updates, _ = tx.update(jax.tree.map(lambda leaf: 0.3 * leaf, params), tx.init(params), params)
    np.testing.assert_allclose(updates["early"]["kernel"], 0.0)  # the schedule's step 0
    np.testing.assert_allclose(updates["late"]["kernel"], -0.5, rtol=1e-5)  # Adam's first step is of length 1


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"rate": 1.0}, r"groups\['default'\] has no field rate; it has learning_rate, multiplier"),
        (
            {"multiplier": 2.0, "learning_rate": 0.1},
            "a multiplier for the run's learning rate or its own learning_rate",
        ),
        ({"optimizer": "lyon"}, "a group's optimizer is 'lyon'; tlx has adam, adamw"),
        ({}, "the group 'default' has no learning_rate, and there is none for the run"),
    ],
)
def test_groups_that_cannot_be(group: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_optimizer(tree(0), (), {"default": group})
