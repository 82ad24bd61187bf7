"""Attention that a GPU computes in one kernel, without storing the weights of each query and key (Dao et al. 2022).

The kernel is cuDNN's, called through `jax.nn.dot_product_attention`. It takes 16-bit inputs and returns no weights. Its
public form has no dropout, and its private form takes the seed as a constant of the compiled program, so that every
step would use the same mask. Blocks that train with attention dropout therefore compute attention as
`tlx.models.layers.attend` does.
"""

from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed

IMPLEMENTATIONS = ("xla", "cudnn")  # as in `jax.nn.dot_product_attention`
LARGEST_HEAD = 128  # cuDNN takes 256 from Hopper GPUs on; no supported family has heads above 128


def fused_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None, implementation: Any = "cudnn"
) -> jax.Array:
    """Computes softmax(Q Kᵀ / √d) V (Vaswani et al. 2017, eq. 1); the softmax is computed in float32.

    Args:
      query: (batch, length, heads, d), bfloat16 or float16 for cuDNN.
      key: (batch, length, heads, d).
      value: (batch, length, heads, d).
      mask: boolean, broadcastable to (batch, heads, queries, keys), True where a query attends to a key: padding, or
        which tokens are of the same packed text. The kernel takes it as a bias of a large negative number on the
        scores, so a query whose keys are all masked attends to all of them equally, as in `attention_weights` (and, if
        the length is odd, to a token of zeros).
      implementation: as in `jax.nn.dot_product_attention`.

    Returns:
      (batch, length, heads, d), in the dtype of `query`.
    """
    batch, length = query.shape[:2]
    odd = length % 2
    if odd:  # JAX refuses odd lengths in training; ViT has 197 tokens. No query attends to the token that is added.
        query, key, value = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (query, key, value))
    seen = None
    if mask is not None:  # cuDNN takes a row for every query
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], length, length))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, odd), (0, odd)))
    elif odd:
        seen = jnp.full(batch, length, jnp.int32)
    output = jax.nn.dot_product_attention(
        query, key, value, mask=mask, key_value_seq_lengths=seen, implementation=implementation
    )
    return output[:, :length]


def choose_implementation(wanted: str, dtype: Any, head_size: int) -> str:
    """Returns the implementation of attention for this process's devices: `wanted`, or for "auto" the best of them.

    This is decided when the model is built. `jax.lax.platform_dependent` would trace the kernel on every host, and JAX
    refuses to trace it where cuDNN is not installed.

    Args:
      wanted: "auto" or one of `IMPLEMENTATIONS`.
      dtype: the dtype of the computation; None for float32.
      head_size: the size of a head.

    Raises:
      TlxError: if `wanted` is unknown, or "cudnn" where its kernel does not take the dtype or the size.
    """
    if wanted not in ("auto", *IMPLEMENTATIONS):
        raise TlxError(f"config.model.attention is {wanted!r}; it is one of {listed(('auto', *IMPLEMENTATIONS))}.")
    half = dtype is not None and jnp.dtype(dtype).itemsize == 2
    fits = half and head_size % 8 == 0 and head_size <= LARGEST_HEAD
    if wanted == "cudnn" and not fits:
        raise TlxError(
            f"config.model.attention is 'cudnn', whose kernel takes bfloat16 and heads of a multiple of 8 up to "
            f"{LARGEST_HEAD}; found {jnp.dtype(dtype or jnp.float32)} and heads of {head_size}. "
            "Set config.model.dtype to 'bfloat16', or config.model.attention to 'auto'."
        )
    if wanted == "auto":
        return "cudnn" if fits and has_flash_attention(jax.devices()[0]) else "xla"
    return wanted


def has_flash_attention(device: Any) -> bool:
    """Whether cuDNN has the kernel for this device: an NVIDIA GPU of compute capability 8.0 (Ampere) or above."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    return float(device.compute_capability) >= 8.0
