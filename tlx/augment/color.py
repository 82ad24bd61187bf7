"""Brightness, contrast, saturation, hue, grayscale, and their random combination, color jitter.

Factors are defined as in torchvision (`ColorJitter`) and PIL (`ImageEnhance`): a factor f blends the image with a
degenerate one, degenerate + f · (image - degenerate), clipped to [0, 1]; 1 changes nothing. dm-pix follows TensorFlow
instead: it adds to the brightness, uses each channel's mean for contrast, scales saturation in HSV and does not clip.
Only its hue is defined as in torchvision.
"""

import dm_pix
import jax
import jax.numpy as jnp

from tlx.augment.keys import between, derive, uniforms

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in PIL's mode "L"


def blend(degenerate: jax.Array, image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Returns degenerate + factor · (image - degenerate), clipped to [0, 1] (Haeberli & Voorhies 1994)."""
    return jnp.clip(degenerate + factor * (image - degenerate), 0, 1)


def luminance(image: jax.Array) -> jax.Array:
    """Returns 0.299 R + 0.587 G + 0.114 B, (height, width, 1)."""
    red, green, blue = (image[..., channel, None] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def mean_luminance(image: jax.Array) -> jax.Array:
    """Returns the mean luminance, computed on levels 0 … 255 and rounded to a level, divided by 255, as in PIL.

    The sum is over integers, so it does not depend on the order of summation. A sum of floats would, and the order
    depends on the batch size.
    """
    levels = jnp.round(luminance(image) * 255).astype(jnp.int32)
    return jnp.floor(jnp.sum(levels) / levels.size + 0.5) / 255


def greyscale(image: jax.Array) -> jax.Array:
    """Returns the luminance in all three channels."""
    return jnp.broadcast_to(luminance(image), image.shape)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends the image with black."""
    return jnp.clip(image * factor, 0, 1)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends the image with a constant image of its mean luminance."""
    return blend(mean_luminance(image), image, factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends the image with its grayscale version."""
    return blend(luminance(image), image, factor)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
    """Shifts the hue in HSV by a fraction `shift` of a full turn, in [-0.5, 0.5]."""
    return jnp.clip(dm_pix.adjust_hue(image, shift), 0, 1)


def factor_range(amount: float) -> tuple[float, float]:
    """Returns the range [max(0, 1 - amount), 1 + amount] of a jitter's uniform factor."""
    return max(0.0, 1 - amount), 1 + amount


def color_jitter(
    key: jax.Array,
    image: jax.Array,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> jax.Array:
    """Applies the four adjustments in random order, as torchvision's `ColorJitter`.

    Under `vmap`, each position in the order computes all adjustments.

    Args:
      key: the key of the image.
      image: float32 (height, width, 3) in [0, 1].
      brightness: the factor is uniform in `factor_range(brightness)`; 0 for no adjustment.
      contrast: the factor is uniform in `factor_range(contrast)`; 0 for no adjustment.
      saturation: the factor is uniform in `factor_range(saturation)`; 0 for no adjustment.
      hue: the shift is uniform in [-hue, hue]; at most 0.5.
    """
    amounts = (
        (adjust_brightness, factor_range(brightness)),
        (adjust_contrast, factor_range(contrast)),
        (adjust_saturation, factor_range(saturation)),
        (adjust_hue, (-hue, hue)),
    )
    adjustments = [
        (adjust, between(uniform, low, high))
        for uniform, (adjust, (low, high)) in zip(uniforms(derive(key, 0), 4), amounts)
        if low < high
    ]
    if not adjustments:
        return image
    order = jnp.argsort(uniforms(derive(key, 1), len(adjustments)))
    branches = [lambda image, adjust=adjust, factor=factor: adjust(image, factor) for adjust, factor in adjustments]
    image, _ = jax.lax.scan(lambda image, index: (jax.lax.switch(index, branches, image), None), image, order)
    return image
