"""A step of the methods with phases, and of AdaBN, against the same step in plain JAX or NumPy, in float64."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import cdist

from tests.methods import domains
from tests.methods.domains import CLASSES, ROWS, after, batch_of, model_of, prepare, started, stepped
from tests.methods.test_adaptation import (
    RATE,
    XS,
    XT,
    compare,
    descended,
    discriminator,
    domain_losses,
    entropies,
    features,
    labelled,
    logits,
    probabilities,
)  # fmt: skip
from tlx.errors import TlxError
from tlx.methods.adabn import AdaBn
from tlx.methods.finetune import FineTune
from tlx.methods.two_phases import Adda, PseudoLabels, Shot, centroid_labels

BATCH = batch_of()
BATCH["target"]["position"] = np.array([-1, 4, 3, 2, 1, 0])  # row 0 is padding; there are five examples
LABELS = np.array([2, 0, 1, 1, 0], np.int32)  # by position
OF_ROWS = LABELS[BATCH["target"]["position"][1:]]


class Outputs:
    """As a run gives them to `before_epoch`."""

    def __init__(self, params: Any, given_logits: Any = None):
        self.model_state: Any = {}
        self.params, self.given = params, given_logits

    def __call__(self, stream: str) -> Any:
        assert stream == "target"
        return self.given if self.given is not None else np.asarray(logits(self.params, XT))

    def features(self, stream: str) -> Any:
        assert stream == "target"
        return np.asarray(features(self.params, XT))


def start(method: Any, **changes: Any) -> tuple[Any, Any]:
    state, player_of = started(method, method.model, dict.fromkeys(method.players, optax.sgd(RATE)))
    return dataclasses.replace(state, **changes), player_of


def on_labels(params: Any, counted: Any) -> Any:
    log_p = jnp.log(probabilities(logits(params, XT)))[jnp.arange(5), OF_ROWS]
    return -jnp.sum(counted * log_p) / counted.sum()


def test_shot(x64: None) -> None:
    """The head does not move, and no source example is read."""
    method = Shot(model_of(), prepare, trade_off=0.3, target_size=5)
    state, player_of = start(method, method_state={"labels": jnp.asarray(LABELS), "counted": jnp.ones(5)})
    assert method.streams == ("target",)

    def loss(params: Any) -> Any:
        p = probabilities(logits(params, XT))
        mean = p.mean(axis=0)
        return entropies(p).mean() + jnp.sum(mean * jnp.log(mean)) + 0.3 * on_labels(params, jnp.ones(5))

    value, gradient = jax.value_and_grad(loss)(state.params)
    expected = {**state.params, "backbone": descended(state.params["backbone"], gradient["backbone"])}
    found, metrics = stepped(method, state, player_of, {"target": BATCH["target"]}, RATE)
    compare(found.params, expected)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-9)


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_centroids_twice(variant: str) -> None:
    """By SciPy's cosine distances; the features are of very different lengths."""
    random = np.random.default_rng(3)
    x, z = random.normal(size=(40, 6)) * random.lognormal(0, 2, size=(40, 1)), random.normal(size=(40, 4))
    z[:, 3] = -1e4  # no example is of the last class
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    ones = np.c_[x, np.ones(40)]
    by_variant = {"paper": x, "authors": ones / np.sqrt((ones**2).sum(1, keepdims=True))}

    def expected(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = cdist(rows, [np.average(rows, axis=0, weights=p[:, k]) for k in range(3)], "cosine").argmin(1)
        return first, cdist(rows, [rows[first == k].mean(0) for k in range(3)], "cosine").argmin(1)

    first, second = expected(by_variant[variant])
    np.testing.assert_array_equal(centroid_labels(x, z, variant=variant), second)
    assert (second != p.argmax(1)).any() and (second != first).any()
    assert (expected(by_variant["paper"])[1] != expected(by_variant["authors"])[1]).any()


def test_pseudo_labels(x64: None) -> None:
    """The rows whose probability reaches the threshold count."""
    method = PseudoLabels(model_of(), prepare, trade_off=0.4, ramp=0.0, threshold=0.6, target_size=5)
    given = np.log(np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05]]))
    given[1, 0] += 1e-6  # of the probability 0.6 as float32 rounds it
    method_state = method.before_epoch({}, {}, 0, Outputs({}, given))
    np.testing.assert_array_equal(method_state["labels"], LABELS)
    np.testing.assert_array_equal(method_state["counted"], [1, 1, 0, 1, 1])
    state, player_of = start(method, method_state=jax.tree.map(jnp.asarray, method_state))
    counted = jnp.asarray(method_state["counted"])[BATCH["target"]["position"][1:]]
    gradient = jax.grad(lambda p: labelled(logits(p, XS)) + 0.4 * on_labels(p, counted))(state.params)
    found, _ = stepped(method, state, player_of, BATCH, RATE)
    compare(found.params, descended(state.params, gradient))


def test_the_weight_of_pseudo_labels_grows(x64: None) -> None:
    """Of four steps: 0 to the end of the source's phase, then linear, then 3 (Lee 2013, equation 16)."""
    method = PseudoLabels(model_of(), prepare, source_fraction=0.25, ramp=2 / 3, target_size=5)
    state, player_of = start(method, method_state={"labels": jnp.asarray(LABELS), "counted": jnp.ones(5)})
    for step, weight in ((0, 0.0), (1, 0.0), (2, 1.5), (3, 3.0)):
        _, metrics = stepped(method, after(state, step), player_of, BATCH, RATE)
        expected = labelled(logits(state.params, XS)) + weight * on_labels(state.params, jnp.ones(5))
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)


def test_adda(x64: None) -> None:
    """The discriminator by the kept encoder of the source, then the target's encoder by inverted labels."""
    method = Adda(model_of(), prepare, discriminator=(5,))
    state, player_of = start(method)
    kept = {**state.params, "backbone": jax.tree.map(lambda leaf: leaf * 1.3, state.params["backbone"])}
    copied = method.before_epoch(state.method_state, kept, 0, Outputs(kept))
    assert method.before_epoch(copied, state.params, 1, Outputs(state.params)) is copied
    state = dataclasses.replace(state, method_state=copied)

    def domain(aux: Any) -> Any:
        def read(params: Any, x: Any) -> Any:
            return features(kept if x is XS else state.params, x)

        return domain_losses({**state.params, "aux": aux}, read)

    aux = descended(state.params["aux"], jax.grad(domain)(state.params["aux"]))

    def taken(backbone: Any) -> Any:
        at = discriminator({"aux": aux}, features({"backbone": backbone}, XT))
        return -jnp.mean(jnp.log(1 / (1 + jnp.exp(-at))))

    backbone = descended(state.params["backbone"], jax.grad(taken)(state.params["backbone"]))
    found, _ = stepped(method, state, player_of, BATCH, RATE)
    compare(found.params, {**state.params, "aux": aux, "backbone": backbone})


def test_adabn(x64: None) -> None:
    """Parameters as in fine-tuning on the source; the running statistics are those of the target's rows."""
    model = model_of(domains.Dense(norm=True))
    adapted, plain = AdaBn(model, prepare), FineTune(model, {"default": "label"}, prepare)
    optimizers = {"model": optax.sgd(RATE)}
    state, player_of = started(adapted, model, optimizers)
    found, _ = stepped(adapted, state, player_of, BATCH, RATE)
    expected, _ = stepped(plain, state, player_of, {"train": BATCH["train"]}, RATE)
    compare(found.params, expected.params)
    layer = state.params["backbone"]["dense_0"]
    target = XT @ layer["kernel"] + layer["bias"]
    before, after = (s.model_state["batch_stats"]["backbone"]["norm_0"] for s in (state, found))
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * target.mean(0), rtol=1e-9)
    np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * target.var(0), rtol=1e-9)


def test_adabn_needs_batch_normalization(x64: None) -> None:
    method = AdaBn(model_of(), prepare)
    state, player_of = start(method)
    with pytest.raises(TlxError, match="statistics of batch normalization, which this model has not"):
        stepped(method, state, player_of, BATCH, RATE)


def test_the_state_has_a_label_for_each_example() -> None:
    shapes = {"heads": {"default": {"output": {"kernel": np.zeros((4, CLASSES))}}}}
    assert Shot(model_of(), prepare, target_size=ROWS).init(jax.random.key(0), shapes)[1]["labels"].shape == (ROWS,)
    with pytest.raises(TlxError, match=r"config\.method\.threshold is 2"):
        PseudoLabels(model_of(), prepare, threshold=2)
    with pytest.raises(TlxError, match=r"config.method.ramp is -1; it is a share"):
        PseudoLabels(model_of(), prepare, ramp=-1)
