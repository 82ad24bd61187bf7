"""Shear, translate, rotate and zoom: one resampling of the image along an affine map.

A map is PIL's (`Image.transform(size, AFFINE, …)`): a matrix [[a, b, c], [d, e, f]] that takes the centre (x, y) of an
output pixel to the point (a x + b y + c, d x + e y + f) of the input. Pixels are squares of side 1 from the upper left
corner (0, 0), so that the first one's centre is (½, ½). What lies outside of the input is filled. dm-pix's
`affine_transform` resamples the channel axis as well and fills by other rules at the border, so it is not used.
"""

import jax
import jax.numpy as jnp

from tlx.augment.keys import between, uniforms
from tlx.errors import TlxError

Number = jax.Array | float
WARPS = ("nearest", "bilinear")


def matrix(a: Number, b: Number, c: Number, d: Number, e: Number, f: Number) -> jax.Array:
    """float32 (2, 3)."""
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in (a, b, c, d, e, f)]).reshape(2, 3)


def warp(image: jax.Array, inverse: jax.Array, method: str = "nearest", fill: float = 0.0) -> jax.Array:
    """The image resampled along a map.

    Args:
      image: float32 (height, width, 3).
      inverse: from output to input, (2, 3), as above.
      method: `nearest` or `bilinear`. Bilinear repeats the outermost pixels for the half pixel beyond their centres.
      fill: of all channels, where the input has nothing.
    """
    if method not in WARPS:
        raise TlxError(f"warp is {method!r}; tlx has {', '.join(WARPS)}.")
    height, width, _ = image.shape
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    across, down = (row[0] * x + row[1] * y + row[2] for row in inverse)
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)

    def pixel(row: jax.Array, column: jax.Array) -> jax.Array:
        flat = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        return jnp.take(image.reshape(-1, 3), flat, axis=0, mode="clip")

    if method == "nearest":
        found = pixel(jnp.floor(down).astype(jnp.int32), jnp.floor(across).astype(jnp.int32))
    else:
        left, top = jnp.floor(across - 0.5), jnp.floor(down - 0.5)
        right_share, lower_share = (across - 0.5 - left)[..., None], (down - 0.5 - top)[..., None]
        column, row = left.astype(jnp.int32), top.astype(jnp.int32)
        upper = pixel(row, column) * (1 - right_share) + pixel(row, column + 1) * right_share
        lower = pixel(row + 1, column) * (1 - right_share) + pixel(row + 1, column + 1) * right_share
        found = upper * (1 - lower_share) + lower * lower_share
    return jnp.where(inside[..., None], found, fill)


def identity() -> jax.Array:
    """The map that changes nothing."""
    return matrix(1, 0, 0, 0, 1, 0)


def shear_x(amount: Number) -> jax.Array:
    """Each row read `amount` times its height further right, about the upper left corner (Cubuk et al. 2019)."""
    return matrix(1, amount, 0, 0, 1, 0)


def shear_y(amount: Number) -> jax.Array:
    """Each column read `amount` times its place further down, about the upper left corner."""
    return matrix(1, 0, 0, amount, 1, 0)


def translate_x(pixels: Number) -> jax.Array:
    """The image moved right."""
    return matrix(1, 0, -jnp.asarray(pixels, jnp.float32), 0, 1, 0)


def translate_y(pixels: Number) -> jax.Array:
    """The image moved down."""
    return matrix(1, 0, 0, 0, 1, -jnp.asarray(pixels, jnp.float32))


def rotate(degrees: Number, height: int, width: int) -> jax.Array:
    """The image turned counter-clockwise about its centre, as `PIL.Image.rotate`."""
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
    """The map of torchvision's `affine`: centred, x sheared by -tan(shear), zoomed, turned clockwise, moved.

    Args:
      height, width: of the image, whose centre stays (before it is moved).
      degrees: clockwise, as seen.
      zoom: above 1 enlarges.
      shear: degrees.
      right, down: pixels.
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
    """torchvision's `RandomAffine`: all four drawn uniformly and done in one resampling.

    Args:
      key: of the image.
      image: float32 (height, width, 3).
      rotate: degrees, drawn from ±rotate.
      translate: a fraction of width and height; drawn from ± that many pixels, rounded.
      zoom: (lowest, highest), or () for none.
      shear: degrees, drawn from ±shear, along x.
      method, fill: of `warp`.
    """
    height, width, _ = image.shape
    ranges = ((-rotate, rotate), zoom or (1.0, 1.0), (-shear, shear), (-translate, translate), (-translate, translate))
    angle, size, slant, right, down = (between(u, low, high) for u, (low, high) in zip(uniforms(key, 5), ranges))
    moved = jnp.round(right * width), jnp.round(down * height)
    return warp(image, about_centre(height, width, angle, size, slant, *moved), method, fill)
