"""Every optimizer of the table against its published update written out in NumPy in float64, by group, on the trainable
part; two updates also against what optax makes of the same numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tlx.errors import TlxError
from tlx.optim.groups import Group, make_optimizer
from tlx.optim.optimizers import OPTIMIZERS
from tlx.params.paths import flatten
from tlx.training.phases import carry_over
from tlx.training.state import assign_players, init_state

STEPS, DECAY = 5, 0.1
Slots = dict[str, Any]
SHAPES = {
    "frozen/kernel": (3, 2), "body/kernel": (4, 3), "body/bias": (3,), "body/LayerNorm/scale": (3,),
    "head/kernel": (3, 2),
}  # fmt: skip


def tree(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {path: random.normal(size=shape) for path, shape in SHAPES.items()}


def nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    return tlx.params.paths.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()})


def moments(g: Any, s: Slots, b1: float = 0.9, b2: float = 0.999) -> tuple[Any, Any]:
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g**2
    return s["m"], s["v"]


def adamw(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    m, v = moments(g, s)
    return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p


def nadamw(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    """Dozat 2016, with a constant momentum."""
    m, v = moments(g, s)
    ahead = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
    return ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p


def amsgrad(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    m, v = moments(g, s)
    s["max"] = np.maximum(s.get("max", 0.0), v / (1 - 0.999**t))
    return m / (1 - 0.9**t) / (np.sqrt(s["max"]) + 1e-8) + decay * p


def lamb(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    m, v = moments(g, s)
    u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * p
    return u * np.linalg.norm(p) / np.linalg.norm(u)


def lion(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    m = s.get("m", 0.0)
    s["m"] = 0.99 * m + 0.01 * g
    return np.sign(0.9 * m + 0.1 * g) + decay * p


def adafactor(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    """Shazeer & Stern 2018, algorithms 4 and 5, of matrices from 3 × 3 on; the decay as in AdamW."""
    b = 1 - t**-0.8
    square = g**2 + 1e-30
    if g.ndim == 2 and min(g.shape) >= 3:
        s["r"] = b * s.get("r", 0.0) + (1 - b) * square.mean(1)
        s["c"] = b * s.get("c", 0.0) + (1 - b) * square.mean(0)
        u = g / np.sqrt(np.outer(s["r"], s["c"]) / s["r"].mean())
    else:
        s["v"] = b * s.get("v", 0.0) + (1 - b) * square
        u = g / np.sqrt(s["v"])
    u = u / max(1.0, np.sqrt((u**2).mean()))
    return u * max(1e-3, np.sqrt((p**2).mean())) + decay * p


def sgd(nesterov: bool) -> Callable[..., Any]:
    """torch.optim.SGD: decay in the gradient."""

    def step(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
        g = g + decay * p
        s["b"] = 0.8 * s.get("b", 0.0) + g
        return g + 0.8 * s["b"] if nesterov else s["b"]

    return step


def rmsprop(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    """As TensorFlow and optax: the momentum is of updates times their rate, where torch's is of updates."""
    g = g + decay * p
    s["v"] = 0.9 * s.get("v", 0.0) + 0.1 * g**2
    s["b"] = 0.5 * s.get("b", 0.0) + s["rate"] * g / np.sqrt(s["v"] + 1e-8)
    return s["b"] / s["rate"]


def adagrad(g: Any, p: Any, s: Slots, t: int, decay: float) -> Any:
    g = g + decay * p
    s["v"] = s.get("v", 0.1) + g**2
    return g / np.sqrt(s["v"] + 1e-7)


CASES: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("adam", {}, adamw), ("adamw", {}, adamw), ("nadam", {}, nadamw), ("nadamw", {}, nadamw), ("amsgrad", {}, amsgrad),
    ("lamb", {}, lamb), ("lion", {}, lion), ("adafactor", {"min_dim_size_to_factor": 3}, adafactor),
    ("sgd", {"momentum": 0.8}, sgd(False)), ("sgd", {"momentum": 0.8, "nesterov": True}, sgd(True)),
    ("rmsprop", {"momentum": 0.5}, rmsprop), ("adagrad", {}, adagrad),
]  # fmt: skip


def test_every_optimizer_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == set(OPTIMIZERS)


@pytest.mark.parametrize(("name", "settings", "reference"), CASES, ids=[f"{n} {s}" for n, s, _ in CASES])
@pytest.mark.parametrize("of_group", [False, True], ids=["the run's", "a group's"])
def test_the_published_update(name: str, settings: Any, reference: Any, of_group: bool, x64: None) -> None:
    """Kernels alone are decayed; the head has ten times the rate; what is frozen has no part in it."""
    own = {"optimizer": name} if of_group else {}
    groups = {"default": Group(1.0, DECAY, **own), "head": Group(10.0, 0.0, **own)}
    rules = (("frozen/.*", "frozen"), ("head/.*", "head"), (".*", "default"))
    rate = lambda step: 0.01 / (1 + step)  # noqa: E731
    params = nested(tree(0))
    tx = make_optimizer(params, rules, groups, learning_rate=rate, name="adamw" if of_group else name, **settings)
    part, frozen = tlx.partition(params, rules)
    state, slots = tx.init(part), {path: {} for path in SHAPES}  # type: ignore[var-annotated]
    expected = tree(0)
    for t in range(1, STEPS + 1):
        gradient = tree(t)
        updates, state = tx.update(tlx.partition(nested(gradient), rules)[0], state, part)
        part = optax.apply_updates(part, updates)
        for path, p in expected.items():
            if path.startswith("frozen"):
                continue
            step = 0.01 / t * (10 if path.startswith("head") else 1)
            decay = DECAY if path == "body/kernel" else 0.0
            slots[path]["rate"] = step
            expected[path] = p - step * reference(gradient[path], p, slots[path], t, decay)
    # optax computes the decay of Adafactor's averages in float32, whatever the parameters are.
    tolerance = 1e-6 if name == "adafactor" else 1e-12
    for path, leaf in flatten(tlx.merge(part, frozen)).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=tolerance, err_msg=path)
        assert leaf.dtype == jnp.float64


@pytest.mark.parametrize(
    ("name", "settings", "other"),
    [
        ("adafactor", {"min_dim_size_to_factor": 3}, optax.adafactor(0.1, min_dim_size_to_factor=3)),
        ("amsgrad", {}, optax.amsgrad(0.1)),
        ("rmsprop", {}, optax.rmsprop(0.1)),
    ],
)
def test_without_decay_it_is_optaxs(name: str, settings: Any, other: Any) -> None:
    params = nested(tree(0))
    ours = make_optimizer(params, (), {"default": Group()}, learning_rate=0.1, name=name, **settings)
    state, others = ours.init(params), other.init(params)
    for seed in range(3):
        updates, state = ours.update(nested(tree(seed)), state, params)
        expected, others = other.update(nested(tree(seed)), others, params)
        for path, leaf in flatten(updates).items():
            np.testing.assert_allclose(leaf, flatten(expected)[path], rtol=1e-5, err_msg=path)


def test_adafactor_keeps_a_row_and_a_column_of_what_learns() -> None:
    """The numbers of a 4 × 3 kernel are 4 + 3 (and a 1 of optax's in place of the whole), of a vector all; the frozen
    kernel has none."""
    params = nested(tree(0))
    rules = (("frozen/.*", "frozen"), ("head/.*", "frozen"), (".*", "default"))
    tx = make_optimizer(
        params, rules, {"default": Group()}, learning_rate=0.1, name="adafactor", min_dim_size_to_factor=3
    )
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(tx.init(tlx.partition(params, rules)[0])) if leaf.ndim)
    # kernel: row, column, 1; each of the two vectors: 1, 1, and 3
    assert sizes == sorted([4, 3, 1, 1, 1, 3, 1, 1, 3])


def test_factored_moments_go_on_over_a_phases_border() -> None:
    """The head begins to learn at the border: what went on learning has the very moments it had, the head's are zero
    and in a state with a count of its own."""
    params = nested(tree(0))
    groups, players = {"default": Group()}, {"model": ((".*", True),)}
    states = []
    for index, rules in enumerate(((("frozen/.*", "frozen"), ("head/.*", "frozen")), (("frozen/.*", "frozen"),))):
        assigned = tlx.optim.groups.assign_groups(params, rules, groups)
        player_of = assign_players(params, assigned, players)
        since = {path: 3 * index * path.startswith("head") for path in assigned}
        tx = make_optimizer(
            params, rules, groups, learning_rate=0.1, name="adafactor", since=since, min_dim_size_to_factor=2
        )
        state = init_state(params, player_of, {"model": tx}, {})
        if index == 0:
            own = tlx.partition(params, (*rules, (".*", "default")))[0]
            for _ in range(3):
                _, moved = tx.update(own, state.opt_state["model"], own)
                state = state.replace(opt_state={"model": moved})  # type: ignore[attr-defined]
        states.append(state)
    before, after = states[0], carry_over(states[0], states[1])
    old = before.opt_state["model"].inner_states["default"].inner_state[0]
    new = after.opt_state["model"].inner_states["default"].inner_state[0]
    assert int(new.count) == 3 and np.abs(np.asarray(new.v_row["body"]["kernel"])).min() > 0
    for one, other in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(one, other)
    late = after.opt_state["model"].inner_states["default@3"].inner_state[0]
    assert int(late.count) == 0
    assert late.v_row["head"]["kernel"].shape == (2,) and not np.asarray(late.v_row["head"]["kernel"]).any()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "lion",
            {"eps": 1e-6},
            r"the optimizer setting 'eps' is 1e-06, which applies only to adam, .*; lion takes b1, b2",
        ),
        ("adamw", {"momentum": 0.9}, r"'momentum' is 0.9, which applies only to sgd, rmsprop; adamw takes b1, b2, eps"),
        ("adamw", {"beta": 0.9}, r"'beta' is 0.9, but no optimizer has it"),
    ],
)
def test_settings_of_other_optimizers(name: str, settings: Any, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        make_optimizer(nested(tree(0)), (), {"default": Group()}, learning_rate=0.1, name=name, **settings)


def test_a_setting_of_a_groups_optimizer_is_one_of_the_runs() -> None:
    groups = {"default": Group(), "head": Group(optimizer="sgd")}
    make_optimizer(nested(tree(0)), (("head/.*", "head"),), groups, learning_rate=0.1, momentum=0.5)
