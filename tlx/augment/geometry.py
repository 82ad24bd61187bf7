"""Shear, translation, rotation and zoom, each as an affine map along which the image is resampled once.

Maps follow PIL (`Image.transform(size, AFFINE, …)`): the matrix [[a, b, c], [d, e, f]] maps the center (x, y) of an
output pixel to the point (a x + b y + c, d x + e y + f) of the input. Pixels are unit squares, and the origin is the
upper left corner of the image, so the center of the first pixel is (½, ½). Points outside the input have a fill value.
dm-pix's `affine_transform` is not used, because it also resamples along the channels and treats borders differently.
"""

import jax
import jax.numpy as jnp

from tlx.augment.keys import between, uniforms
from tlx.errors import TlxError

Number = jax.Array | float
WARPS = ("nearest", "bilinear")


def matrix(a: Number, b: Number, c: Number, d: Number, e: Number, f: Number) -> jax.Array:
    """Returns the map [[a, b, c], [d, e, f]], float32 (2, 3)."""
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in (a, b, c, d, e, f)]).reshape(2, 3)


def warp(image: jax.Array, inverse: jax.Array, method: str = "nearest", fill: float = 0.0) -> jax.Array:
    """Resamples an image along a map.

    Args:
      image: float32 (height, width, 3).
      inverse: the map from output to input, (2, 3).
      method: `nearest` or `bilinear`. Bilinear interpolation repeats the edge pixels in the half pixel outside their
        centers.
      fill: the value of all channels outside the input.

    Raises:
      TlxError: if the method does not exist.
    """
    if method not in WARPS:
        raise TlxError(f"warp is {method!r}; tlx has {', '.join(WARPS)}.")
    height, width, _ = image.shape
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    input_x, input_y = (row[0] * x + row[1] * y + row[2] for row in inverse)
    inside = (input_x >= 0) & (input_x < width) & (input_y >= 0) & (input_y < height)

    def pixel(row: jax.Array, column: jax.Array) -> jax.Array:
        flat = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        return jnp.take(image.reshape(-1, 3), flat, axis=0, mode="clip")

    if method == "nearest":
        resampled = pixel(jnp.floor(input_y).astype(jnp.int32), jnp.floor(input_x).astype(jnp.int32))
    else:
        left, top = jnp.floor(input_x - 0.5), jnp.floor(input_y - 0.5)
        right_share, lower_share = (input_x - 0.5 - left)[..., None], (input_y - 0.5 - top)[..., None]
        column, row = left.astype(jnp.int32), top.astype(jnp.int32)
        upper = pixel(row, column) * (1 - right_share) + pixel(row, column + 1) * right_share
        lower = pixel(row + 1, column) * (1 - right_share) + pixel(row + 1, column + 1) * right_share
        resampled = upper * (1 - lower_share) + lower * lower_share
    return jnp.where(inside[..., None], resampled, fill)


def identity() -> jax.Array:
    """Returns the identity map."""
    return matrix(1, 0, 0, 0, 1, 0)


def shear_x(amount: Number) -> jax.Array:
    """Returns a shear: at height y, pixels are read `amount` · y further right (Cubuk et al. 2019)."""
    return matrix(1, amount, 0, 0, 1, 0)


def shear_y(amount: Number) -> jax.Array:
    """Returns a shear: at position x, pixels are read `amount` · x further down."""
    return matrix(1, 0, 0, amount, 1, 0)


def translate_x(pixels: Number) -> jax.Array:
    """Returns a translation to the right."""
    return matrix(1, 0, -jnp.asarray(pixels, jnp.float32), 0, 1, 0)


def translate_y(pixels: Number) -> jax.Array:
    """Returns a translation downwards."""
    return matrix(1, 0, 0, 0, 1, -jnp.asarray(pixels, jnp.float32))


def rotate(degrees: Number, height: int, width: int) -> jax.Array:
    """Returns a counterclockwise rotation about the center, as in `PIL.Image.rotate`."""
    return about_centre(height, width, degrees=-jnp.asarray(degrees, jnp.float32))


def about_centre(
    height: int,
    width: int,
    degrees: Number = 0.0,
    zoom: Number = 1.0,
    shear: Number = 0.0,
    right: Number = 0.0,
    down: Number = 0.0,
) -> jax.Array:
    """Returns the map of torchvision's `affine`: shear, zoom and rotation about the center, then translation.

    The shear moves x by -tan(shear) · y.

    Args:
      height: the height of the image.
      width: the width of the image.
      degrees: the clockwise rotation.
      zoom: the magnification; above 1 enlarges.
      shear: the shear in degrees.
      right: the translation to the right in pixels.
      down: the translation downwards in pixels.
    """
    turn, slant = jnp.radians(jnp.asarray(degrees, jnp.float32)), jnp.radians(jnp.asarray(shear, jnp.float32))
    cos, sin, tan = jnp.cos(turn), jnp.sin(turn), jnp.tan(slant)
    # Forward: zoom · [[cos, -sin], [sin, cos]] · [[1, -tan], [0, 1]], of determinant zoom².
    a, b = (cos - sin * tan) / zoom, (sin + cos * tan) / zoom
    d, e = -sin / zoom, cos / zoom
    from_x, from_y = width / 2 + right, height / 2 + down
    return matrix(a, b, width / 2 - a * from_x - b * from_y, d, e, height / 2 - d * from_x - e * from_y)


def random_affine(
    key: jax.Array,
    image: jax.Array,
    rotate: float = 0.0,
    translate: float = 0.0,
    zoom: tuple[float, ...] = (),
    shear: float = 0.0,
    method: str = "nearest",
    fill: float = 0.0,
) -> jax.Array:
    """Applies torchvision's `RandomAffine`: four uniformly sampled operations in one resampling.

    Args:
      key: the key of the image.
      image: float32 (height, width, 3).
      rotate: the largest rotation in degrees, in both directions.
      translate: the largest translation as a fraction of width and height, in both directions; it is rounded to pixels.
      zoom: (lowest, highest) magnification; () for none.
      shear: the largest shear along x in degrees, in both directions.
      method: as in `warp`.
      fill: as in `warp`.
    """
    height, width, _ = image.shape
    ranges = ((-rotate, rotate), zoom or (1.0, 1.0), (-shear, shear), (-translate, translate), (-translate, translate))
    angle, size, slant, right, down = (between(u, low, high) for u, (low, high) in zip(uniforms(key, 5), ranges))
    moved = jnp.round(right * width), jnp.round(down * height)
    return warp(image, about_centre(height, width, angle, size, slant, *moved), method, fill)
