"""Activation functions by their names in Hugging Face configs (`hidden_act`), with the formulas of transformers."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError, listed


def gelu(x: jax.Array) -> jax.Array:
    """GELU, x Φ(x) with the exact normal distribution function (Hendrycks & Gimpel 2016), in at least float32.

    Computed with erf, as in transformers. `jax.nn.gelu` uses erfc, which is exact for large negative x but three times
    as slow.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


def gelu_tanh(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU (Hendrycks & Gimpel 2016, section 2)."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: jax.Array) -> jax.Array:
    """x σ(1.702 x), the sigmoid approximation of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu_accurate(x: jax.Array) -> jax.Array:
    """The tanh approximation with √(2/π) written out."""
    return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def mish(x: jax.Array) -> jax.Array:
    """x tanh(softplus(x)) (Misra 2019)."""
    return x * jnp.tanh(jax.nn.softplus(x))


ACTIVATIONS: dict[str, Callable[..., jax.Array]] = {
    "gelu": gelu,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "gelu_accurate": gelu_accurate,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def check_activation(name: str) -> None:
    """Raises `TlxError` for a name that is not in `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise TlxError(f"hidden_act is {name!r}; tlx has {listed(sorted(ACTIVATIONS), 30)}.")
