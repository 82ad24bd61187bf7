"""Random boxes by area and aspect ratio, used by random resized crop and random erasing."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tlx.augment.keys import below, between, uniforms

TRIES = 10


class Box(NamedTuple):
    """A box in pixels.

    Attributes:
      top: the first row, int32 ().
      left: the first column, int32 ().
      height: the number of rows, int32 ().
      width: the number of columns, int32 ().
    """

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


def draw_box(
    key: jax.Array, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]
) -> tuple[Box, jax.Array]:
    """Samples ten boxes and returns the first one that fits into the image, at a uniform position.

    The sides are sampled as in torchvision (Szegedy et al. 2015, section 6). All ten boxes are sampled at once.

    Args:
      key: the key.
      height: the height of the image.
      width: the width of the image.
      scale: the range of the box's fraction of the area, which is uniform.
      ratio: the range of width / height, which is log-uniform.

    Returns:
      The box, and whether any of the ten fits, bool ().
    """
    area_uniform, ratio_uniform, (row, column) = jnp.split(uniforms(key, 2 * TRIES + 2), (TRIES, 2 * TRIES))
    area = between(area_uniform, *scale) * (height * width)
    log_ratio = between(ratio_uniform, math.log(ratio[0]), math.log(ratio[1]))
    box_width = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio))).astype(jnp.int32)
    box_height = jnp.round(jnp.sqrt(area * jnp.exp(-log_ratio))).astype(jnp.int32)
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    first = jnp.argmax(fits)
    box_height, box_width = box_height[first], box_width[first]
    top = below(row, jnp.maximum(height - box_height, 0) + 1)
    left = below(column, jnp.maximum(width - box_width, 0) + 1)
    return Box(top, left, box_height, box_width), fits[first]


def box_mask(
    height: int, width: int, top: jax.Array, left: jax.Array, bottom: jax.Array, right: jax.Array
) -> jax.Array:
    """Returns a mask, bool (height, width, 1), True at the pixels of a box."""
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[..., None]
