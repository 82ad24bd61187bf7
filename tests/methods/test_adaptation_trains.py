"""Each method of domain adaptation on a shifted problem that the source alone gets wrong.

Two classes at the ends of the first axis; in the target the cloud is turned by 0.6
radians and moved, so that a network trained on the source alone errs on a part of it.
"""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from tests.methods import domains
from tests.methods.domains import model_of, prepare, started
from tlx.methods.discrepancy import Dan, DeepCoral, Jan
from tlx.methods.domain_adversarial import Cdan, Dann
from tlx.methods.mcd import Mcd
from tlx.methods.target_predictions import EntropyMinimization, Mcc
from tlx.models.forward import forward
from tlx.training.step import make_train_step

ROWS, STEPS, TURN = 64, 400, 0.6


def sample(random: np.random.Generator, rows: int, target: bool) -> tuple[np.ndarray, np.ndarray]:
    label = random.integers(0, 2, rows)
    x = random.normal(size=(rows, 2)) * [0.35, 0.35] + np.stack([2.0 * label - 1, np.zeros(rows)], 1)
    if target:
        turn = np.array([[np.cos(TURN), np.sin(TURN)], [-np.sin(TURN), np.cos(TURN)]])
        x = x @ turn + [0.5, 0.0]
    return x.astype(np.float32), label


def accuracy(method: Any, seed: int) -> float:
    """On fresh examples of the target, after training."""
    random = np.random.default_rng(seed)
    optimizers = dict.fromkeys(method.players, optax.adam(3e-3))
    state, player_of = started(method, method.model, optimizers, seed, scale=0)
    step = jax.jit(make_train_step(method, optimizers, player_of, total_steps=STEPS))
    for _ in range(STEPS):
        (xs, ys), (xt, _) = sample(random, ROWS, False), sample(random, ROWS, True)
        valid = np.ones(ROWS, bool)
        batch = {"train": {"x": xs, "label": ys, "valid": valid}, "target": {"x": xt, "valid": valid}}
        state, _ = step(state, batch, jax.random.key(seed))
    x, y = sample(np.random.default_rng(99), 1000, True)
    variables = state.variables
    output, _ = forward(method.model, variables.params, variables.model_state, {"x": x})
    return float((output.logits["default"].argmax(-1) == y).mean())


def made(make: Any, **settings: Any) -> Any:
    return make(model_of(domains.Dense(16, depth=2), 2, 2), prepare, **settings)


METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dan": (Dan, {"estimator": "unbiased"}),
    "jan": (Jan, {"estimator": "unbiased"}),
    "dann": (Dann, {"discriminator": (32,)}),
    "cdan_e": (Cdan, {"discriminator": (32,), "entropy": True}),
    "mcc": (Mcc, {}),
    "entropy_minimization": (EntropyMinimization, {}),
    "mcd": (Mcd, {}),
    "deep_coral": (DeepCoral, {"layers": ("features", "logits"), "variant": "tllib"}),
}


@pytest.mark.slow
@pytest.mark.long
def test_every_method_gains_on_the_target() -> None:
    source = accuracy(made(Mcc, trade_off=0.0), 0)
    assert 0.85 < source < 0.95
    for name, (make, settings) in METHODS.items():
        assert accuracy(made(make, **settings), 0) > source + 0.01, name


@pytest.mark.slow
@pytest.mark.long
def test_dan_from_scratch_needs_a_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned by 0.9 radians, DAN at full strength from the first step aligns the logits with the classes exchanged.

    Its discrepancy falls all the same: the marginals are aligned. Of what was tried with eight seeds (other estimators,
    the variant `tllib`, a gradient through the bandwidth, a smaller trade-off, other layers), a trade-off that begins
    at 0, one of 0.3, and leaving the logits out end well for all; the rest fails as it does here.
    """
    monkeypatch.setattr("tests.methods.test_adaptation_trains.TURN", 0.9)
    source = accuracy(made(Mcc, trade_off=0.0), 1)
    at_once = accuracy(made(Dan, estimator="unbiased"), 1)
    grown = accuracy(made(Dan, estimator="unbiased", warm_start=10.0), 1)
    assert at_once < 0.5 < source < grown - 0.05
