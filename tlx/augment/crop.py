"""Crops: of a padded image, and the random resized crop of Inception."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tlx.augment.boxes import Box, draw_box
from tlx.augment.keys import below, uniforms
from tlx.errors import TlxError


def triangle(x: jax.Array) -> jax.Array:
    """Linear interpolation; 0 from |x| = 1 on."""
    return jnp.maximum(0, 1 - jnp.abs(x))


def cubic(x: jax.Array) -> jax.Array:
    """Cubic convolution with a = -1/2 (Keys 1981), as PIL and `jax.image`; 0 from |x| = 2 on."""
    x = jnp.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


KERNELS: dict[str, tuple[Callable[[jax.Array], jax.Array], int]] = {"bilinear": (triangle, 1), "bicubic": (cubic, 2)}


def taps(start: jax.Array, length: jax.Array, outer: int, size: int, method: str) -> tuple[jax.Array, jax.Array]:
    """Which pixels of a side make up each pixel of a resized part of it, and with which weights.

    As PIL resizes a crop: the kernel is widened where the part shrinks (antialiasing), pixels outside of the part
    count nothing, and weights are normed.

    Args:
      start, length: of the part, in pixels.
      outer: the side's length, at least `start + length`.
      size: of the result.
      method: of `KERNELS`.

    Returns:
      Positions int32 (size, taps) and weights float32 (size, taps).
    """
    kernel, support = KERNELS[method]
    count = math.ceil(2 * support * max(1.0, outer / size))
    scale = length / size
    widened = jnp.maximum(scale, 1)
    centre = (jnp.arange(size) + 0.5) * scale
    first = jnp.floor(centre - support * widened + 0.5).astype(jnp.int32)
    position = first[:, None] + jnp.arange(count)
    weights = kernel((position + 0.5 - centre[:, None]) / widened)
    weights = jnp.where((position >= 0) & (position < length), weights, 0)
    return jnp.clip(position, 0, length - 1) + start, weights / jnp.sum(weights, axis=1, keepdims=True)


def weighed(image: jax.Array, positions: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """The sum over taps, in their order, of the image at `positions` of an axis times `weights`, both (size, taps).

    A loop over the taps, since XLA would otherwise work each weight out anew at every pixel.
    """
    along = (-1, 1, 1) if axis == 0 else (1, -1, 1)

    def add(total: jax.Array, tap: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        position, weight = tap
        return total + jnp.take(image, position, axis, mode="clip") * weight.reshape(along), None

    shape = list(image.shape)
    shape[axis] = positions.shape[0]
    total, _ = jax.lax.scan(add, jnp.zeros(shape, image.dtype), (positions.T, weights.T))
    return total


def resized_crop(
    image: jax.Array,
    top: jax.Array,
    left: jax.Array,
    height: jax.Array,
    width: jax.Array,
    size: tuple[int, int],
    method: str = "bilinear",
) -> jax.Array:
    """A box of the image at another size: PIL's `crop` and then `resize`, without its rounding between the axes.

    `jax.image.scale_and_translate` differs: its kernel reaches over the border of the box, and its matrix products sum
    in an order of the backend's choice, so that an image's bits would depend on the batch around it. Here a fixed
    number of pixels is gathered per axis and summed in order.

    Args:
      image: float32 (H, W, 3) in [0, 1].
      top, left, height, width: of the box, int32.
      size: (height, width) of the result, static.
      method: `bilinear` or `bicubic`, whose overshoot is cut to [0, 1] after each axis, as PIL's.
    """
    if method not in KERNELS:
        raise TlxError(f"interpolation is {method!r}; tlx has {', '.join(KERNELS)}.")
    rows, row_weights = taps(top, height, image.shape[0], size[0], method)
    columns, column_weights = taps(left, width, image.shape[1], size[1], method)
    image = jnp.clip(weighed(image, columns, column_weights, axis=1), 0, 1)
    return jnp.clip(weighed(image, rows, row_weights, axis=0), 0, 1)


def draw_crop(key: jax.Array, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]) -> Box:
    """The box of a random resized crop.

    Where none of the ten tries fits, the largest box in the image's middle whose ratio lies in `ratio`, as torchvision.
    """
    box, fits = draw_box(key, height, width, scale, ratio)
    wide, high = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    middle = ((height - high) // 2, (width - wide) // 2, high, wide)
    return Box(*(jnp.where(fits, drawn, instead) for drawn, instead in zip(box, middle)))


def random_resized_crop(
    key: jax.Array,
    image: jax.Array,
    size: tuple[int, int],
    scale: tuple[float, ...] = (0.08, 1.0),
    ratio: tuple[float, ...] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> jax.Array:
    """A box of random area and aspect ratio, at the size asked for (Szegedy et al. 2015, 6)."""
    return resized_crop(image, *draw_crop(key, image.shape[0], image.shape[1], scale, ratio), size, method)


def random_padded_crop(key: jax.Array, image: jax.Array, pad: int, fill: float = 0.0) -> jax.Array:
    """Padded by `pad` pixels of `fill` on each side, cut to its size at a random place (He et al. 2016, 4.2)."""
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    top, left = below(uniforms(key, 2), 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
