"""Fifty steps of the training step from LibMTL's parameters on LibMTL's batches: its losses, for each balance of tasks.

The reference was made by LibMTL's own trainer (`third_party/libmtl/make.py`). Where its definition is not the paper's,
`OPTIONS` names the option of tlx that follows it.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.methods.domains import KEY, Dense, prepare
from tlx.methods.multitask import balance, gram
from tlx.methods.multitask.method import MultiTask, TaskLabels, UncertaintyWeighted
from tlx.models.custom import Custom, CustomConfig
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.optim.optimizers import build
from tlx.params.paths import flatten
from tlx.training.state import assign_players, init_state
from tlx.training.step import make_train_step

REFERENCE = json.loads((Path(__file__).parents[3] / "third_party" / "libmtl" / "reference.json").read_text())
NAMES = tuple(REFERENCE["labels"])
TOLERANCE = 1e-4
# LibMTL's EW sums the losses, as tlx does. Its UW halves cross entropies too and begins with log variances of −0.5. A
# gradient of its PCGrad also meets itself. Its CAGrad is divided by 1 + c², 1e-8 is added below its roots, and SciPy's
# SLSQP finds its weights to a tolerance of 1e-6, which is too little for equal losses (`CAGrad solved`: 1e-14).
CAGRAD = {"c": REFERENCE["arguments"]["CAGrad"]["calpha"], "rescale": "1 + c^2"}
OPTIONS: dict[str, dict[str, Any]] = {
    "EW": {}, "UW": {"variant": "half", "initial": -0.5}, "DWA": {"temperature": REFERENCE["arguments"]["DWA"]["T"]},
    "PCGrad": {"meets_itself": True}, "CAGrad solved": CAGRAD,
}  # fmt: skip


class PcGradInOrder(balance.PcGrad):
    """PCGrad with the orders in which LibMTL's gradients met, of each step."""

    def of_gradients(self, inner: jax.Array, values: jax.Array, present: jax.Array, state: Any) -> tuple[Any, Any]:
        orders = jnp.asarray(REFERENCE["runs"]["sgd"]["PCGrad"]["orders"])[state["step"]]
        weights = gram.pcgrad_weights(inner, present, orders, self.reduction, self.meets_itself)
        return weights, {**state, "step": state["step"] + 1}


BALANCES: dict[str, type[balance.Balance]] = {
    "EW": balance.Balance, "DWA": balance.DynamicWeightAverage, "PCGrad": PcGradInOrder, "CAGrad": balance.CaGrad,
    "CAGrad solved": balance.CaGrad,
}  # fmt: skip


def head_of(name: str) -> Head:
    outputs = len(REFERENCE["params"][name]["bias"])
    return Head("regression" if name == "size" else "classification", outputs, pooling="cls")


def method_of(weighting: str, options: dict[str, Any]) -> MultiTask:
    config = CustomConfig((), (("x", (1, len(REFERENCE["x"][0])), "float32"),))
    module = Dense(hidden=len(REFERENCE["params"]["shared"]["bias"]))
    model = Model(Custom(config, None, module), tuple((name, head_of(name)) for name in NAMES), config.head_settings)
    tasks = {name: TaskLabels(f"label_{name}") for name in NAMES}
    if weighting == "UW":
        return UncertaintyWeighted(model, tasks, prepare, **options)
    return MultiTask(model, tasks, prepare, BALANCES[weighting](**options))


def batches() -> list[dict[str, Any]]:
    fields = {"x": np.array(REFERENCE["x"])}
    fields |= {f"label_{name}": np.array(each) for name, each in REFERENCE["labels"].items()}
    size = REFERENCE["batch"]
    return [
        {"train": {"valid": np.ones(size, bool), **{name: each[at : at + size] for name, each in fields.items()}}}
        for at in range(0, len(REFERENCE["x"]), size)
    ]


def losses_of_tlx(weighting: str, optimizer: str, options: dict[str, Any]) -> np.ndarray:
    """Each task's loss before each step, (steps, tasks)."""
    method = method_of(weighting, options)
    rate = REFERENCE["optimizers"][optimizer]["lr"]
    plain = build(optimizer, rate, (0.0, None), {"momentum": 0.0} if optimizer == "sgd" else {})
    optimizers = dict.fromkeys(method.players, plain)
    given = jax.tree.map(jnp.asarray, REFERENCE["params"], is_leaf=lambda each: isinstance(each, list))
    params = {
        "backbone": {"dense_0": given["shared"]},
        "heads": {name: {"output": given[name]} for name in NAMES},
    }
    aux, method_state = method.init(jax.random.key(0), None)
    params |= {"aux": aux} if aux else {}
    player_of = assign_players(params, dict.fromkeys(flatten(params), "default"), method.players)
    state = init_state(params, player_of, optimizers, method_state)
    step = jax.jit(make_train_step(method, optimizers, player_of))
    found = []
    for epoch in range(REFERENCE["epochs"]):
        if method.before_epoch is not None:
            method_state = method.before_epoch(state.method_state, state.params, epoch, None)
            state = dataclasses.replace(state, method_state=method_state)
        for batch in batches():
            state, metrics = step(state, batch, KEY)
            found.append([float(metrics[f"loss/{name}"]) for name in NAMES])
    return np.array(found)


def theirs(weighting: str, optimizer: str) -> np.ndarray:
    return np.array(REFERENCE["runs"][optimizer][weighting]["losses"])


def apart(found: np.ndarray, weighting: str, optimizer: str) -> float:
    """The largest relative difference from LibMTL's losses."""
    return float(np.abs(found / theirs(weighting, optimizer) - 1).max())


@pytest.mark.parametrize("optimizer", REFERENCE["optimizers"])
@pytest.mark.parametrize("weighting", OPTIONS)
def test_fifty_losses_are_libmtls(weighting: str, optimizer: str, x64: None) -> None:
    found = losses_of_tlx(weighting, optimizer, OPTIONS[weighting])
    assert len(found) == 50
    print(f"\n{weighting}, {optimizer}: largest relative difference {apart(found, weighting, optimizer):.1e}")
    assert apart(found, weighting, optimizer) < TOLERANCE


def test_libmtls_own_tolerance_in_cagrad(x64: None) -> None:
    """As it is, it is close to the losses of the exact weights, both of tlx and of LibMTL, but not equal."""
    found = losses_of_tlx("CAGrad", "sgd", CAGRAD)
    print(f"\nCAGrad, sgd: largest relative difference {apart(found, 'CAGrad', 'sgd'):.1e}")
    assert TOLERANCE < apart(found, "CAGrad", "sgd") < 1e-2
    assert TOLERANCE < apart(theirs("CAGrad solved", "sgd"), "CAGrad", "sgd") < 1e-2


@pytest.mark.parametrize("weighting", [name for name, options in OPTIONS.items() if options])
def test_without_the_options_losses_differ(weighting: str, x64: None) -> None:
    assert apart(losses_of_tlx(weighting, "sgd", {}), weighting, "sgd") > 10 * TOLERANCE


def test_the_weightings_differ() -> None:
    """So gradients conflict, and every weighting has an effect."""
    for one, other in itertools.combinations(OPTIONS, 2):
        assert apart(theirs(one, "sgd"), other, "sgd") > 10 * TOLERANCE
