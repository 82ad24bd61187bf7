"""A trained weighted sum of layers (scalar mix: Peters et al. 2018, eq. 1) with a classifier, fitted by L-BFGS."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx.errors import TlxError


def scalar_mix(logits: jax.Array, gamma: jax.Array, layers: jax.Array) -> jax.Array:
    """Returns γ Σⱼ sⱼ hⱼ with s = softmax(logits).

    Args:
      logits: (layers,).
      gamma: γ, ().
      layers: the hidden states hⱼ, (…, layers, hidden).

    Returns:
      (…, hidden).
    """
    return gamma * jnp.einsum("l,...lh->...h", jax.nn.softmax(logits), layers)


@dataclasses.dataclass(frozen=True)
class MixFitted:
    """A fitted scalar mix with its classifier.

    Attributes:
      params: `logits` (layers,), `gamma` (), `kernel` (hidden, classes), `bias` (classes,).
      classes: the classes in the order of the outputs.
      loss: the final loss, with its penalty.
      steps: the number of L-BFGS steps.
    """

    params: dict[str, Any]
    classes: tuple[Any, ...]
    loss: float
    steps: int

    @property
    def weights(self) -> np.ndarray:
        """The weights of the layers, (layers,); their sum is 1."""
        return np.asarray(jax.nn.softmax(self.params["logits"]))

    def mixed(self, layers: np.ndarray) -> np.ndarray:
        """Returns the weighted sum of layers (examples, layers, hidden): (examples, hidden)."""
        return np.asarray(scalar_mix(self.params["logits"], self.params["gamma"], jnp.asarray(layers)))

    def predict(self, layers: np.ndarray) -> np.ndarray:
        """Returns the most likely class of each example, (examples,)."""
        predictions = self.mixed(layers) @ np.asarray(self.params["kernel"]) + np.asarray(self.params["bias"])
        return np.asarray(self.classes)[predictions.argmax(-1)]


def fit_mix(
    layers: np.ndarray,
    labels: Sequence[Any] | np.ndarray,
    strength: float = 1e-2,
    most: int = 500,
    tolerance: float = 1e-5,
) -> MixFitted:
    """Minimizes mean cross entropy + strength/2 (|kernel|² + (γ − 1)²), starting from equal weights and a zero kernel.

    γ is penalized too, because a large γ would otherwise circumvent the penalty on the kernel.

    Args:
      layers: (examples, layers, hidden), such as features of several layers, or of several backbones of equal width.
      labels: the labels of the examples.
      strength: the strength of the penalty.
      most: the largest number of steps.
      tolerance: the norm of the gradient at which the minimization stops.

    Raises:
      TlxError: if `layers` has another number of dimensions.
    """
    if np.ndim(layers) != 3:
        raise TlxError(f"a scalar mix needs layers of shape (examples, layers, hidden); found {np.shape(layers)}.")
    classes, targets = np.unique(np.asarray(labels), return_inverse=True)
    x, y = jnp.asarray(layers), jnp.asarray(targets)

    def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        predictions = scalar_mix(params["logits"], params["gamma"], x) @ params["kernel"] + params["bias"]
        penalty = jnp.sum(params["kernel"] ** 2) + (params["gamma"] - 1) ** 2
        return optax.softmax_cross_entropy_with_integer_labels(predictions, y).mean() + strength / 2 * penalty

    params = {
        "logits": jnp.zeros(x.shape[1], x.dtype), "gamma": jnp.ones((), x.dtype),
        "kernel": jnp.zeros((x.shape[2], len(classes)), x.dtype), "bias": jnp.zeros(len(classes), x.dtype),
    }  # fmt: skip
    params, value, steps = _minimize(loss, params, (x, y), most, tolerance)
    return MixFitted(jax.device_get(params), tuple(classes.tolist()), float(value), int(steps))


def _minimize(loss: Any, params: Any, data: tuple[Any, ...], most: int, tolerance: float) -> tuple[Any, Any, Any]:
    """Minimizes `loss(params, *data)` by optax's L-BFGS with zoom line search, in one compiled loop."""
    optimizer = optax.lbfgs()

    @jax.jit
    def run(params: Any, data: Any) -> Any:
        def value(params: Any) -> jax.Array:
            return loss(params, *data)

        value_and_grad = optax.value_and_grad_from_state(value)

        def step(carry: Any) -> Any:
            params, state, _, count = carry
            current, gradient = value_and_grad(params, state=state)
            updates, state = optimizer.update(gradient, state, params, value=current, grad=gradient, value_fn=value)
            return optax.apply_updates(params, updates), state, optax.global_norm(gradient), count + 1

        def unfinished(carry: Any) -> jax.Array:
            return (carry[3] < most) & (carry[2] > tolerance)

        start = (params, optimizer.init(params), jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))
        params, _, _, count = jax.lax.while_loop(unfinished, step, start)
        return params, value(params), count

    return run(params, data)
