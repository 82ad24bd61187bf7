"""PIL's operations on levels (`ImageOps`, `ImageEnhance.Sharpness`): solarize, posterize, autocontrast, equalize …

PIL counts in levels 0 … 255. Where a definition is about levels, an image is rounded to them first, and the result is
on levels too.
"""

import dm_pix
import jax
import jax.numpy as jnp

from tlx.augment.color import blend

LEVELS = 256


def to_levels(image: jax.Array) -> jax.Array:
    """int32, 0 … 255."""
    return jnp.round(image * 255).astype(jnp.int32)


def invert(image: jax.Array) -> jax.Array:
    """1 - image."""
    return 1 - image


def solarize(image: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Levels at or above `threshold`, 0 … 256, inverted.

    dm-pix's definition is PIL's, but for levels that rounding moves to the other side of the threshold: it is given the
    middle between the two levels that the threshold parts.
    """
    return dm_pix.solarize(image, (jnp.ceil(threshold - 1e-3) - 0.5) / 255)


def posterize(image: jax.Array, bits: jax.Array | int) -> jax.Array:
    """The highest `bits` bits, 0 … 8, of each level; the others become 0."""
    kept = jnp.left_shift(jnp.right_shift(to_levels(image), 8 - bits), 8 - bits)
    return kept.astype(image.dtype) / 255


def autocontrast(image: jax.Array) -> jax.Array:
    """Each channel stretched so that its darkest value is 0 and its lightest 1; a channel of one value stays."""
    low, high = jnp.min(image, axis=(0, 1)), jnp.max(image, axis=(0, 1))
    flat = high <= low
    return jnp.where(flat, image, (image - low) / jnp.where(flat, 1, high - low))


def equalize(image: jax.Array) -> jax.Array:
    """Each channel's levels mapped so that their histogram is as flat as a table of levels can make it.

    PIL's table: level i becomes (pixels below i + step // 2) // step, where step is a 255th of the pixels that are not
    of the highest level. Where that is no whole pixel, the channel stays.
    """
    levels = to_levels(image)
    entry = levels + LEVELS * jnp.arange(3)  # into the three channels' tables end to end: far quicker than (3, LEVELS)
    counts = jnp.zeros(3 * LEVELS, jnp.int32).at[entry.ravel()].add(1, mode="promise_in_bounds").reshape(3, LEVELS)
    top = LEVELS - 1 - jnp.argmax(counts[:, ::-1] > 0, axis=1)
    highest = jnp.take_along_axis(counts, top[:, None], axis=1)
    step = (image.shape[0] * image.shape[1] - highest) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step == 0, jnp.arange(LEVELS), table)
    # The table rises already. Sorting makes XLA build it once; it would divide anew at every pixel, four times slower.
    table = jnp.sort(table, axis=1)
    return jnp.take(table.ravel().astype(image.dtype) / 255, entry, mode="clip")


def smooth(image: jax.Array) -> jax.Array:
    """PIL's `ImageFilter.SMOOTH`: (the sum over 3 × 3 + 4 · the centre) / 13; the outermost pixels stay."""
    rows = image[:-2] + image[1:-1] + image[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (around + 4 * image[1:-1, 1:-1]) / 13
    return image.at[1:-1, 1:-1].set(inner)


def adjust_sharpness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with its `smooth`: 0 blurs, 1 changes nothing, 2 sharpens."""
    return blend(smooth(image), image, factor)
