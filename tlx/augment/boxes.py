"""Boxes drawn by area and aspect ratio: what random resized crop and random erasing share."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tlx.augment.keys import below, between, uniforms

TRIES = 10


class Box(NamedTuple):
    """Pixels, int32."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


def draw_box(
    key: jax.Array, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]
) -> tuple[Box, jax.Array]:
    """The first of ten drawn boxes that the image can hold, at a uniform place.

    Its share of the area is uniform in `scale`, its width / height log-uniform in `ratio`, each side rounded
    (Szegedy et al. 2015, 6; as torchvision draws it). All tries are drawn at once.

    Returns:
      The box, and whether any try fits, bool.
    """
    area_drawn, ratio_drawn, (row, column) = jnp.split(uniforms(key, 2 * TRIES + 2), (TRIES, 2 * TRIES))
    area = between(area_drawn, *scale) * (height * width)
    log_ratio = between(ratio_drawn, math.log(ratio[0]), math.log(ratio[1]))
    wide = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio))).astype(jnp.int32)
    high = jnp.round(jnp.sqrt(area * jnp.exp(-log_ratio))).astype(jnp.int32)
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    first = jnp.argmax(fits)
    high, wide = high[first], wide[first]
    top, left = below(row, jnp.maximum(height - high, 0) + 1), below(column, jnp.maximum(width - wide, 0) + 1)
    return Box(top, left, high, wide), fits[first]


def box_mask(
    height: int, width: int, top: jax.Array, left: jax.Array, bottom: jax.Array, right: jax.Array
) -> jax.Array:
    """True at the pixels of a box, (height, width, 1)."""
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[..., None]
