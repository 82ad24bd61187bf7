"""Boxes drawn by area and aspect ratio: what random resized crop and random erasing share."""

import math

import jax
import jax.numpy as jnp

TRIES = 10


def draw_box(
    key: jax.Array, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first of ten drawn boxes that the image can hold, without its place.

    Its share of the area is uniform in `scale`, its width / height log-uniform in `ratio`, each side rounded
    (Szegedy et al. 2015, 6; as torchvision draws it). All tries are drawn at once.

    Returns:
      (height, width, whether any try fits); int32, int32, bool.
    """
    area_key, ratio_key = jax.random.split(key)
    area = jax.random.uniform(area_key, (TRIES,), minval=scale[0], maxval=scale[1]) * (height * width)
    log_ratio = jax.random.uniform(ratio_key, (TRIES,), minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
    wide = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio))).astype(jnp.int32)
    high = jnp.round(jnp.sqrt(area * jnp.exp(-log_ratio))).astype(jnp.int32)
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    first = jnp.argmax(fits)
    return high[first], wide[first], fits[first]


def place(key: jax.Array, outer: int, inner: jax.Array) -> jax.Array:
    """Where a side of `inner` pixels starts within one of `outer`: uniform in 0 … outer - inner, int32."""
    return jax.random.randint(key, (), 0, outer - inner + 1)


def box_mask(
    height: int, width: int, top: jax.Array, left: jax.Array, bottom: jax.Array, right: jax.Array
) -> jax.Array:
    """True at the pixels of a box, (height, width, 1)."""
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[..., None]
