"""PIL's tone operations (`ImageOps`, `ImageEnhance.Sharpness`): solarize, posterize, autocontrast, equalize, sharpness.

PIL works on integer levels 0 … 255. Operations that are defined on levels round the image to levels first, and their
results are levels divided by 255.
"""

import dm_pix
import jax
import jax.numpy as jnp

from tlx.augment.color import blend

LEVELS = 256


def to_levels(image: jax.Array) -> jax.Array:
    """Rounds an image in [0, 1] to levels, int32 in 0 … 255."""
    return jnp.round(image * 255).astype(jnp.int32)


def invert(image: jax.Array) -> jax.Array:
    """Returns 1 - image."""
    return 1 - image


def solarize(image: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Inverts levels at or above `threshold`, 0 … 256.

    dm-pix's definition is PIL's. Its threshold is set halfway between two levels, so that rounding errors cannot move a
    level to the other side.
    """
    return dm_pix.solarize(image, (jnp.ceil(threshold - 1e-3) - 0.5) / 255)


def posterize(image: jax.Array, bits: jax.Array | int) -> jax.Array:
    """Keeps the highest `bits` bits, 0 … 8, of each level and sets the others to 0."""
    kept = jnp.left_shift(jnp.right_shift(to_levels(image), 8 - bits), 8 - bits)
    return kept.astype(image.dtype) / 255


def autocontrast(image: jax.Array) -> jax.Array:
    """Rescales each channel to the range [0, 1]; a constant channel is unchanged."""
    low, high = jnp.min(image, axis=(0, 1)), jnp.max(image, axis=(0, 1))
    constant = high <= low
    return jnp.where(constant, image, (image - low) / jnp.where(constant, 1, high - low))


def equalize(image: jax.Array) -> jax.Array:
    """Equalizes the histogram of each channel.

    PIL's lookup table is used: level i becomes ((number of pixels below i) + step // 2) // step, where step is the
    number of pixels that do not have the highest level, divided by 255 and rounded down. If step is 0, the channel is
    unchanged.
    """
    levels = to_levels(image)
    entry = levels + LEVELS * jnp.arange(3)  # one flat table for three channels: much faster than shape (3, LEVELS)
    counts = jnp.zeros(3 * LEVELS, jnp.int32).at[entry.ravel()].add(1, mode="promise_in_bounds").reshape(3, LEVELS)
    top = LEVELS - 1 - jnp.argmax(counts[:, ::-1] > 0, axis=1)
    highest = jnp.take_along_axis(counts, top[:, None], axis=1)
    step = (image.shape[0] * image.shape[1] - highest) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step == 0, jnp.arange(LEVELS), table)
    # The table is already sorted. Sorting makes XLA compute it once; otherwise it divides at every pixel, which takes
    # four times as long.
    table = jnp.sort(table, axis=1)
    return jnp.take(table.ravel().astype(image.dtype) / 255, entry, mode="clip")


def smooth(image: jax.Array) -> jax.Array:
    """Applies PIL's `ImageFilter.SMOOTH`: (sum over 3 × 3 pixels + 4 · center) / 13; edge pixels are unchanged."""
    rows = image[:-2] + image[1:-1] + image[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (around + 4 * image[1:-1, 1:-1]) / 13
    return image.at[1:-1, 1:-1].set(inner)


def adjust_sharpness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends the image with its smoothed version: factor 0 blurs, 1 changes nothing, 2 sharpens."""
    return blend(smooth(image), image, factor)
