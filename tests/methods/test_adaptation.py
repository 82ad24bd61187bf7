"""A step of each method of domain adaptation against the same step written out in plain JAX, in float64.

The references compute the network, the losses and the players' updates from the formulas, with no function of tlx. Rows
of padding hold large numbers, and are left out of the references altogether.
"""

import functools
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods import domains
from tests.methods.domains import CLASSES, HIDDEN, after, batch_of, model_of, prepare, started, stepped
from tlx.errors import TlxError
from tlx.losses import sinkhorn_alignment
from tlx.methods.discrepancy import Dan, DeepCoral, Jan
from tlx.methods.domain_adversarial import Cdan, Dann
from tlx.methods.mcd import Mcd
from tlx.methods.target_predictions import EntropyMinimization, Mcc
from tlx.methods.transport import DeepJdot
from tlx.params.paths import flatten

RATE, STEP, TOTAL = 0.1, 2, 4
PROGRESS = STEP / TOTAL
BATCH = batch_of()
XS, YS = (BATCH["train"][name][:5] for name in ("x", "label"))
XT = BATCH["target"]["x"][1:]
DISCRIMINATOR = (5,)


def features(params: Any, x: Any) -> Any:
    layer = params["backbone"]["dense_0"]
    return jnp.tanh(x @ layer["kernel"] + layer["bias"])


def answers(layer: Any, f: Any) -> Any:
    return f @ layer["output"]["kernel"] + layer["output"]["bias"]


def logits(params: Any, x: Any) -> Any:
    return answers(params["heads"]["default"], features(params, x))


def probabilities(z: Any) -> Any:
    e = jnp.exp(z)
    return e / e.sum(axis=1, keepdims=True)


def labelled(z: Any) -> Any:
    return -jnp.mean(jnp.log(probabilities(z))[jnp.arange(len(YS)), YS])


def entropies(p: Any) -> Any:
    return -jnp.sum(p * jnp.log(p), axis=1)


def discriminator(params: Any, h: Any) -> Any:
    layers = params["aux"]["discriminator"]
    h = jnp.maximum(h @ layers["layer_0"]["kernel"] + layers["layer_0"]["bias"], 0)
    return (h @ layers["layer_1"]["kernel"] + layers["layer_1"]["bias"])[:, 0]


def squares(x: Any, y: Any) -> Any:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def median_of_pairs(x: Any, y: Any) -> Any:
    rows = jnp.concatenate([x, y])
    return jax.lax.stop_gradient(jnp.median(squares(rows, rows)[np.triu_indices(len(rows), 1)]))


def discrepancy(kernel: Any, x: Any, y: Any) -> Any:
    """The unbiased estimate."""
    n, m = len(x[0]), len(y[0])
    ss, tt, st = kernel(x, x), kernel(y, y), kernel(x, y)
    within = (ss.sum() - jnp.trace(ss)) / (n * (n - 1)) + (tt.sum() - jnp.trace(tt)) / (m * (m - 1))
    return within - 2 * st.mean()


def dan(params: Any) -> Any:
    value = 0.0
    for layer in (features, logits):
        x, y = layer(params, XS), layer(params, XT)
        gamma = median_of_pairs(x, y)
        scales = [gamma * 2.0 ** (k / 2) for k in range(-16, 17)]
        value += discrepancy(lambda a, b, s=scales: sum(jnp.exp(-squares(a[0], b[0]) / g) for g in s) / 33, [x], [y])
    return value


def jan(params: Any) -> Any:
    sides = [(features(params, x), probabilities(logits(params, x))) for x in (XS, XT)]
    gammas = [median_of_pairs(x, y) for x, y in zip(*sides)]

    def kernel(a: Any, b: Any) -> Any:
        return jnp.exp(-squares(a[0], b[0]) / gammas[0] - squares(a[1], b[1]) / gammas[1])

    return (2 / (1 + np.exp(-10 * PROGRESS)) - 1) * discrepancy(kernel, *sides)


def coral(params: Any) -> Any:
    gap = jnp.cov(logits(params, XS).T) - jnp.cov(logits(params, XT).T)
    return (gap**2).sum() / (4 * CLASSES**2)


def mcc(params: Any) -> Any:
    y = probabilities(logits(params, XT) / 2.5)
    w = 1 + jnp.exp(-entropies(y))
    w = len(y) * w / w.sum()
    c = y.T @ jnp.diag(w) @ y
    c = c / c.sum(axis=1, keepdims=True)
    return (c.sum() - jnp.trace(c)) / CLASSES


def minimal_entropy(params: Any) -> Any:
    return entropies(probabilities(logits(params, XT))).mean()


def deepjdot(params: Any) -> Any:
    s, t = features(params, XS), features(params, XT)
    cost = 0.5 * squares(s, t) - 0.8 * jnp.log(probabilities(logits(params, XT)))[:, YS].T
    kernel = jnp.exp(-jax.lax.stop_gradient(cost / (0.1 * cost.mean())))
    left, right = jnp.ones(len(XS)), jnp.ones(len(XT))
    for _ in range(500):
        left = 1 / len(XS) / (kernel @ right)
        right = 1 / len(XT) / (kernel.T @ left)
    return jnp.sum(left[:, None] * kernel * right * cost)


PLAIN = {
    "dan": (Dan, {"estimator": "unbiased"}, dan),
    "jan": (Jan, {"estimator": "unbiased"}, jan),
    "deep_coral": (DeepCoral, {}, coral),
    "mcc": (Mcc, {}, mcc),
    "entropy_minimization": (EntropyMinimization, {}, minimal_entropy),
}
TRANSPORT = (DeepJdot, {"feature_weight": 0.5, "label_weight": 0.8, "epsilon": 0.1}, deepjdot)
needs_ott = pytest.mark.skipif(importlib.util.find_spec("ott") is None, reason="could not import 'ott'")


def start(method: Any, seed: int = 0) -> tuple[Any, Any]:
    optimizers = dict.fromkeys(method.players, optax.sgd(RATE))
    state, player_of = started(method, method.model, optimizers, seed)
    return after(state, STEP), player_of


def compare(found: Any, expected: Any) -> None:
    for path, leaf in flatten(expected).items():
        np.testing.assert_allclose(flatten(found)[path], leaf, rtol=1e-9, atol=1e-12, err_msg=path)


def descended(params: Any, gradient: Any, factor: float = 1.0) -> Any:
    return jax.tree.map(lambda leaf, slope: leaf - RATE * factor * slope, params, gradient)


@pytest.mark.long
@pytest.mark.parametrize("passes", ["joint", "separate"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_step_by_hand(x64: None, name: str, passes: str) -> None:
    make, settings, reference = PLAIN[name]
    method = make(model_of(), prepare, trade_off=0.7, passes=passes, **settings)
    state, player_of = start(method)
    value, gradient = jax.value_and_grad(lambda p: labelled(logits(p, XS)) + 0.7 * reference(p))(state.params)
    found, metrics = stepped(method, state, player_of, BATCH, RATE)
    compare(found.params, descended(state.params, gradient))
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-9)


@needs_ott
def test_deepjdot(x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = functools.partial(sinkhorn_alignment, threshold=1e-13)
    monkeypatch.setattr("tlx.methods.transport.sinkhorn_alignment", exact)
    monkeypatch.setitem(PLAIN, "deepjdot", TRANSPORT)
    test_a_step_by_hand(None, "deepjdot", "joint")


def domain_losses(params: Any, read: Any, weights: Any = None) -> Any:
    """The discriminator's loss: −mean w log d(source) − mean w log(1 − d(target))."""
    (s, t), (w, v) = (discriminator(params, read(params, x)) for x in (XS, XT)), weights or (1.0, 1.0)
    return -jnp.mean(w * jnp.log(1 / (1 + jnp.exp(-s)))) - jnp.mean(v * jnp.log(1 / (1 + jnp.exp(t))))


def adversarial_step(params: Any, domain: Any, factor: float) -> Any:
    """The model minimizes the task's loss minus factor · the discriminator's; the discriminator minimizes its own."""
    task, against = (jax.grad(loss)(params) for loss in (lambda p: labelled(logits(p, XS)), domain))
    expected = descended(params, jax.tree.map(lambda a, b: a - factor * b, task, against))
    return {**expected, "aux": descended(params["aux"], against["aux"])}


FACTOR = 0.6 * (2 / (1 + np.exp(-10 * PROGRESS)) - 1)


@pytest.mark.parametrize(("parts", "variant", "share"), [(1, "paper", 1.0), (3, "paper", 1.0), (1, "tllib", 0.5)])
def test_dann(x64: None, parts: int, variant: str, share: float) -> None:
    """In micro-batches too: the first has a row of padding of the target, the last one of the source."""
    method = Dann(model_of(), prepare, trade_off=0.6, discriminator=DISCRIMINATOR, variant=variant)
    state, player_of = start(method)
    expected = adversarial_step(state.params, lambda p: share * domain_losses(p, features), FACTOR)
    found, metrics = stepped(method, state, player_of, BATCH, RATE, accumulate=parts)
    compare(found.params, expected)
    loss = labelled(logits(state.params, XS)) + share * domain_losses(state.params, features)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-9)  # the accuracies are not in it
    shares = [np.mean(np.asarray(discriminator(state.params, features(state.params, x))) > 0) for x in (XS, XT)]
    accuracies = [metrics[f"{domain}_domain_accuracy"] for domain in ("source", "target")]
    np.testing.assert_allclose(accuracies, [shares[0], 1 - shares[1]], rtol=1e-9)


@pytest.mark.parametrize("parts", [1, pytest.param(3, marks=pytest.mark.long)])
def test_dann_with_a_discriminator_for_each_source(x64: None, parts: int) -> None:
    """Rows 0 to 9 are of the first source, rows 10 to 14 of the second; the loss is the mean of both pairs'."""
    method = Dann(
        model_of(), prepare, trade_off=0.6, discriminator=DISCRIMINATOR, discriminators="each", sources=(10, 5)
    )
    state, player_of = start(method)
    rows = np.array([9, 10, 0, 14, 3, -1])
    of_source = [np.flatnonzero((rows[:5] >= low) & (rows[:5] < high)) for low, high in ((0, 10), (10, 15))]

    def domain(params: Any) -> Any:
        value = 0.0
        for index, own in enumerate(of_source):
            layers = {**params, "aux": {"discriminator": params["aux"]["discriminator"][f"source_{index}"]}}
            s, t = (discriminator(layers, features(params, x)) for x in (XS[own], XT))
            value += jnp.mean(jnp.log(1 + jnp.exp(-s))) + jnp.mean(jnp.log(1 + jnp.exp(t)))
        return value / 2

    batch = {**BATCH, "train": {**BATCH["train"], "example_id": rows}}
    found, metrics = stepped(method, state, player_of, batch, RATE, accumulate=parts)
    compare(found.params, adversarial_step(state.params, domain, FACTOR))
    np.testing.assert_allclose(metrics["loss"], labelled(logits(state.params, XS)) + domain(state.params), rtol=1e-9)
    assert {f"source_{index}/{name}_domain_accuracy" for index in (0, 1) for name in ("source", "target")} <= {*metrics}


@pytest.mark.parametrize("variant", ["paper", "tllib"])
@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("randomized", [False, pytest.param(True, marks=pytest.mark.long)])
def test_cdan(x64: None, variant: str, entropy: bool, randomized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if randomized:
        monkeypatch.setattr("tlx.methods.domain_adversarial.MULTILINEAR_LIMIT", HIDDEN * CLASSES - 1)
    method = Cdan(
        model_of(), prepare, trade_off=0.6, discriminator=DISCRIMINATOR, entropy=entropy, variant=variant,
        randomized_size=7,
    )  # fmt: skip
    state, player_of = start(method)
    assert ("projections" in state.method_state) == randomized

    def given(params: Any, x: Any) -> Any:
        p = probabilities(logits(params, x))
        return p if variant == "paper" else jax.lax.stop_gradient(p)

    def mapped(params: Any, x: Any) -> Any:
        f, p = features(params, x), given(params, x)
        if randomized:
            left, right = state.method_state["projections"]
            return (f @ left) * (p @ right) / np.sqrt(7)
        return jnp.einsum("bc,bf->bcf", p, f).reshape(len(x), -1)

    def domain(params: Any) -> Any:
        if not entropy:
            return domain_losses(params, mapped)
        ps = [given(params, x) for x in (XS, XT)]
        if variant == "paper":
            return domain_losses(params, mapped, tuple(1 + jnp.exp(-entropies(p)) for p in ps))
        raw = [1 + jnp.exp(jnp.sum(p * jnp.log(p + 1e-5), axis=1)) for p in ps]
        return domain_losses(params, mapped, tuple(w * 10 / (raw[0].sum() + raw[1].sum()) for w in raw))

    share = 0.5 if variant == "tllib" else 1.0
    found, _ = stepped(method, state, player_of, BATCH, RATE)
    compare(found.params, adversarial_step(state.params, lambda p: share * domain(p), FACTOR))


def test_mcd(x64: None) -> None:
    """Three updates with two players; in each, who does not play stays."""
    method = Mcd(model_of(), prepare, trade_off=0.8, generator_steps=2)
    state, player_of = start(method)

    def two(params: Any, x: Any) -> tuple[Any, Any]:
        f = features(params, x)
        return answers(params["heads"]["default"], f), answers(params["aux"]["second_classifier"], f)

    def source(params: Any) -> Any:
        first, second = two(params, XS)
        return labelled(first) + labelled(second)

    def apart(params: Any) -> Any:
        first, second = map(probabilities, two(params, XT))
        return 0.8 * jnp.abs(first - second).mean()

    params: Any = descended(state.params, jax.grad(source)(state.params))
    moved = descended(params, jax.grad(lambda p: source(p) - apart(p))(params))
    params = {**moved, "backbone": params["backbone"]}
    for _ in range(2):
        params = {**params, "backbone": descended(params, jax.grad(apart)(params))["backbone"]}
    found, metrics = stepped(method, state, player_of, BATCH, RATE)
    compare(found.params, params)
    assert {"source/loss", "classifiers/loss", "generator/loss"} <= set(metrics)


def test_the_second_classifier_begins_elsewhere() -> None:
    method = Mcd(model_of(), prepare)
    state, _ = started(method, method.model, dict.fromkeys(method.players, optax.sgd(RATE)), scale=0)
    first, second = state.params["heads"]["default"], state.params["aux"]["second_classifier"]
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, second)
    assert not np.array_equal(first["output"]["kernel"], second["output"]["kernel"])
    assert not np.asarray(second["output"]["bias"]).any()


def statistics(method: Any) -> Any:
    state, player_of = start(method)
    found, _ = stepped(method, state, player_of, BATCH, RATE)
    return state, found.model_state["batch_stats"]["backbone"]["norm_0"]


def test_batch_statistics_of_joint_and_separate_passes(x64: None) -> None:
    """Joint: those of both domains together; separate: first the source's, then the target's. Padding enters none."""
    for passes in ("joint", "separate"):
        method = Dann(model_of(domains.Dense(norm=True)), prepare, passes=passes, discriminator=DISCRIMINATOR)
        state, found = statistics(method)
        layer = state.params["backbone"]["dense_0"]
        hidden = [x @ layer["kernel"] + layer["bias"] for x in (XS, XT)]
        mean, var = np.zeros(HIDDEN), np.ones(HIDDEN)
        for rows in [np.concatenate(hidden)] if passes == "joint" else hidden:
            mean, var = 0.9 * mean + 0.1 * rows.mean(0), 0.9 * var + 0.1 * rows.var(0)
        np.testing.assert_allclose(found["mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(found["var"], var, rtol=1e-9)


ALL: dict[str, Any] = {
    **{name: make for name, (make, _, _) in PLAIN.items()}, "dann": Dann, "cdan": Cdan, "mcd": Mcd,
    "deepjdot": DeepJdot,
}  # fmt: skip
EVERY = [pytest.param(name, marks=needs_ott) if name == "deepjdot" else name for name in ALL]


@pytest.mark.parametrize("name", EVERY)
def test_labels_of_the_target_are_not_read(name: str) -> None:
    """A stream that has them gives the same bits as one that has none."""
    method = ALL[name](model_of(), prepare)
    state, player_of = start(method)
    plain, _ = stepped(method, state, player_of, BATCH)
    with_labels = {**BATCH, "target": {**BATCH["target"], "label": np.arange(6) % CLASSES}}
    other, _ = stepped(method, state, player_of, with_labels)
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("empty", [pytest.param("train", marks=pytest.mark.long), "target"])
def test_a_domain_without_rows_leaves_finite_parameters(name: str, empty: str) -> None:
    method = ALL[name](model_of(), prepare)
    state, player_of = start(method)
    batch = {**BATCH, empty: {**BATCH[empty], "valid": np.zeros(6, bool)}}
    found, _ = stepped(method, state, player_of, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.params))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(TlxError, match="passes is 'both'"):
        Dann(model_of(), prepare, passes="both")
    for make in (Dann, Cdan):
        with pytest.raises(TlxError, match="variant is 'half'; expected 'paper' or 'tllib'"):
            make(model_of(), prepare, variant="half")
    with pytest.raises(TlxError, match="discriminators is 'both'"):
        Dann(model_of(), prepare, discriminators="both")
    with pytest.raises(TlxError, match="discriminators is 'each', and there is one source"):
        Dann(model_of(), prepare, discriminators="each")
    with pytest.raises(TlxError, match="layers is"):
        Dan(model_of(), prepare, layers=("inputs",))
    with pytest.raises(TlxError, match=r"trade_off is -1\.0"):
        Mcc(model_of(), prepare, trade_off=-1.0)
