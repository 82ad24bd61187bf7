"""Brightness, contrast, saturation, hue, greyscale, and their random mixture, colour jitter.

Factors are torchvision's (`ColorJitter`), which are PIL's (`ImageEnhance`): a factor f blends a degenerate image with
the image, degenerate + f · (image - degenerate), cut to [0, 1]; 1 changes nothing. dm-pix follows TensorFlow instead:
it adds to the brightness, takes the mean of contrast per channel, scales the saturation in HSV and cuts nothing. Only
its hue is torchvision's too.
"""

import dm_pix
import jax
import jax.numpy as jnp

from tlx.augment.keys import between, derive, uniforms

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as PIL's mode "L"


def blend(degenerate: jax.Array, image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """degenerate + factor · (image - degenerate), cut to [0, 1] (Haeberli & Voorhies 1994)."""
    return jnp.clip(degenerate + factor * (image - degenerate), 0, 1)


def luminance(image: jax.Array) -> jax.Array:
    """0.299 R + 0.587 G + 0.114 B, (height, width, 1)."""
    red, green, blue = (image[..., channel, None] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def mean_luminance(image: jax.Array) -> jax.Array:
    """The mean of the luminance's levels 0 … 255, rounded to one, over 255; as PIL.

    A sum of whole numbers is the same in every order. One of floats is not, and the order depends on the batch's size.
    """
    levels = jnp.round(luminance(image) * 255).astype(jnp.int32)
    return jnp.floor(jnp.sum(levels) / levels.size + 0.5) / 255


def greyscale(image: jax.Array) -> jax.Array:
    """The luminance in all three channels."""
    return jnp.broadcast_to(luminance(image), image.shape)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with black."""
    return jnp.clip(image * factor, 0, 1)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with a plane of the image's mean luminance."""
    return blend(mean_luminance(image), image, factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with its greyscale."""
    return blend(luminance(image), image, factor)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
    """The hue of HSV turned by `shift` of a full turn, in [-0.5, 0.5]."""
    return jnp.clip(dm_pix.adjust_hue(image, shift), 0, 1)


def factor_range(amount: float) -> tuple[float, float]:
    """[max(0, 1 - amount), 1 + amount], from which a jitter's factor is drawn uniformly."""
    return max(0.0, 1 - amount), 1 + amount


def color_jitter(
    key: jax.Array,
    image: jax.Array,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> jax.Array:
    """The four adjustments in a drawn order, as torchvision's `ColorJitter`. Under `vmap` every place of it runs all.

    Args:
      key: of the image.
      image: float32 (height, width, 3) in [0, 1].
      brightness, contrast, saturation: the factor is uniform in `factor_range`; 0 leaves the adjustment out.
      hue: the shift is uniform in [-hue, hue]; at most 0.5.
    """
    amounts = (
        (adjust_brightness, factor_range(brightness)),
        (adjust_contrast, factor_range(contrast)),
        (adjust_saturation, factor_range(saturation)),
        (adjust_hue, (-hue, hue)),
    )
    chosen = [
        (adjust, between(drawn, low, high))
        for drawn, (adjust, (low, high)) in zip(uniforms(derive(key, 0), 4), amounts)
        if low < high
    ]
    if not chosen:
        return image
    order = jnp.argsort(uniforms(derive(key, 1), len(chosen)))
    branches = [lambda image, adjust=adjust, factor=factor: adjust(image, factor) for adjust, factor in chosen]
    image, _ = jax.lax.scan(lambda image, which: (jax.lax.switch(which, branches, image), None), image, order)
    return image
