"""Random crops: of a padded image, and Inception's random resized crop."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tlx.augment.boxes import Box, draw_box
from tlx.augment.keys import below, uniforms
from tlx.errors import TlxError


def triangle(x: jax.Array) -> jax.Array:
    """The kernel of linear interpolation; 0 for |x| of 1 or more."""
    return jnp.maximum(0, 1 - jnp.abs(x))


def cubic(x: jax.Array) -> jax.Array:
    """The kernel of cubic convolution with a = -1/2 (Keys 1981), as in PIL and `jax.image`; 0 for |x| of 2 or more."""
    x = jnp.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


KERNELS: dict[str, tuple[Callable[[jax.Array], jax.Array], int]] = {"bilinear": (triangle, 1), "bicubic": (cubic, 2)}


def taps(start: jax.Array, length: jax.Array, outer: int, size: int, method: str) -> tuple[jax.Array, jax.Array]:
    """Computes the input pixels and weights from which each output pixel of a resized crop is computed, in one axis.

    As in PIL, the kernel is widened when the crop is reduced in size (antialiasing), pixels outside the crop have
    weight 0, and the weights are normalized.

    Args:
      start: the first pixel of the crop.
      length: the number of pixels of the crop.
      outer: the number of pixels of the image, at least `start + length`.
      size: the number of pixels of the output.
      method: a key of `KERNELS`.

    Returns:
      Positions, int32 (size, taps), and weights, float32 (size, taps).
    """
    kernel, support = KERNELS[method]
    count = math.ceil(2 * support * max(1.0, outer / size))
    scale = length / size
    widened = jnp.maximum(scale, 1)
    center = (jnp.arange(size) + 0.5) * scale
    first = jnp.floor(center - support * widened + 0.5).astype(jnp.int32)
    position = first[:, None] + jnp.arange(count)
    weights = kernel((position + 0.5 - center[:, None]) / widened)
    weights = jnp.where((position >= 0) & (position < length), weights, 0)
    return jnp.clip(position, 0, length - 1) + start, weights / jnp.sum(weights, axis=1, keepdims=True)


def weighed(image: jax.Array, positions: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """Returns the weighted sum over taps of the image's pixels along an axis.

    The taps are summed in order, in a loop, because XLA would otherwise recompute each weight at every pixel.

    Args:
      image: (height, width, 3).
      positions: the positions along the axis, (size, taps).
      weights: (size, taps).
      axis: 0 or 1.

    Returns:
      The image with `size` pixels along the axis.
    """
    broadcast = (-1, 1, 1) if axis == 0 else (1, -1, 1)

    def add(total: jax.Array, tap: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        position, weight = tap
        return total + jnp.take(image, position, axis, mode="clip") * weight.reshape(broadcast), None

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
    """Crops an image to a box and resizes it, as PIL's `crop` and `resize` do, without rounding between the axes.

    `jax.image.scale_and_translate` is not used: its kernel also reads pixels outside the box, and the summation order
    of its matrix products depends on the backend, so the exact result for an image could depend on the batch. Here a
    fixed number of pixels is gathered for each axis and summed in order.

    Args:
      image: float32 (H, W, 3) in [0, 1].
      top: the first row of the box, int32 ().
      left: the first column of the box, int32 ().
      height: the number of rows of the box, int32 ().
      width: the number of columns of the box, int32 ().
      size: (height, width) of the result, static.
      method: `bilinear` or `bicubic`. The result is clipped to [0, 1] after each axis, as in PIL.

    Raises:
      TlxError: if the method does not exist.
    """
    if method not in KERNELS:
        raise TlxError(f"interpolation is {method!r}; tlx has {', '.join(KERNELS)}.")
    rows, row_weights = taps(top, height, image.shape[0], size[0], method)
    columns, column_weights = taps(left, width, image.shape[1], size[1], method)
    image = jnp.clip(weighed(image, columns, column_weights, axis=1), 0, 1)
    return jnp.clip(weighed(image, rows, row_weights, axis=0), 0, 1)


def draw_crop(key: jax.Array, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]) -> Box:
    """Samples the box of a random resized crop; the arguments are those of `draw_box`.

    If none of ten sampled boxes fits, the result is the largest centered box whose aspect ratio is in `ratio`, as in
    torchvision.
    """
    box, fits = draw_box(key, height, width, scale, ratio)
    center_width, center_height = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    center = ((height - center_height) // 2, (width - center_width) // 2, center_height, center_width)
    return Box(*(jnp.where(fits, sampled, fallback) for sampled, fallback in zip(box, center)))


def random_resized_crop(
    key: jax.Array,
    image: jax.Array,
    size: tuple[int, int],
    scale: tuple[float, ...] = (0.08, 1.0),
    ratio: tuple[float, ...] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> jax.Array:
    """Crops a box of random area and aspect ratio and resizes it (Szegedy et al. 2015, section 6).

    Args:
      key: the key of the image.
      image: float32 (height, width, 3) in [0, 1].
      size: (height, width) of the result, static.
      scale: the range of the box's fraction of the area.
      ratio: the range of width / height.
      method: as in `resized_crop`.
    """
    return resized_crop(image, *draw_crop(key, image.shape[0], image.shape[1], scale, ratio), size, method)


def random_padded_crop(key: jax.Array, image: jax.Array, pad: int, fill: float = 0.0) -> jax.Array:
    """Pads an image by `pad` pixels of value `fill` on each side and crops it to its size at a random position.

    This is the augmentation of He et al. 2016, section 4.2.
    """
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    top, left = below(uniforms(key, 2), 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
