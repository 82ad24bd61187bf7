"""RandAugment (Cubuk, Zoph, Shlens, Le 2020): a number of uniformly sampled operations with a common magnitude.

The operations and their ranges are those of torchvision's `RandAugment`. A magnitude m, 0 to `LEVELS` - 1 = 30, means

    identity, autocontrast, equalize                 —
    shear_x, shear_y                                 ± 0.3 · m / 30
    translate_x, translate_y                         ± 150 / 331 · m / 30 of the width, the height, in whole pixels
    rotate                                           ± 30° · m / 30
    brightness, color, contrast, sharpness           factor 1 ± 0.9 · m / 30
    posterize                                        8 - round(4 · m / 30) bits
    solarize                                         threshold 255 · (1 - m / 30)

Under `vmap` a `lax.switch` over operations would run all fourteen branches. But an operation is of one of three kinds:
it resamples along an affine map, blends the image with a degenerate one, or maps its levels. Each layer therefore runs
one stage of each kind. The sampled operation determines the stages' parameters, and at least two stages change nothing.
"""

import jax
import jax.numpy as jnp

from tlx.augment import geometry, tone
from tlx.augment.color import blend, luminance, mean_luminance
from tlx.augment.keys import below, uniforms

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "color", "contrast", "sharpness")
TONES = ("posterize", "solarize", "autocontrast", "equalize")
TRANSFORMS = ("identity", *GEOMETRIC, *BLENDS, *TONES)
LEVELS = 31


def _is(operation: jax.Array, name: str) -> jax.Array:
    return operation == TRANSFORMS.index(name)


def _move(image: jax.Array, operation: jax.Array, amount: jax.Array, method: str, fill: float) -> jax.Array:
    """The geometric stage; `amount` is the signed magnitude divided by its maximum, in [-1, 1]."""
    height, width, _ = image.shape
    maps = {
        "shear_x": geometry.shear_x(0.3 * amount),
        "shear_y": geometry.shear_y(0.3 * amount),
        "translate_x": geometry.translate_x(jnp.trunc(150 / 331 * width * amount)),
        "translate_y": geometry.translate_y(jnp.trunc(150 / 331 * height * amount)),
        "rotate": geometry.rotate(30 * amount, height, width),
    }
    inverse = geometry.identity()
    for name in GEOMETRIC:
        inverse = jnp.where(_is(operation, name), maps[name], inverse)
    return geometry.warp(image, inverse, method, fill)


def _blend(image: jax.Array, operation: jax.Array, amount: jax.Array) -> jax.Array:
    """The stage of blends, which differ only in the degenerate image; `amount` is as in `_move`."""
    gray = luminance(image)
    degenerate = jnp.where(_is(operation, "contrast"), mean_luminance(image), gray)
    degenerate = jnp.where(_is(operation, "brightness"), 0, degenerate)
    degenerate = jnp.where(_is(operation, "sharpness"), tone.smooth(image), degenerate)
    is_blend = jnp.any(jnp.stack([_is(operation, name) for name in BLENDS]))
    return jnp.where(is_blend, blend(degenerate, image, 1 + 0.9 * amount), image)


def _tone(image: jax.Array, operation: jax.Array, share: jax.Array) -> jax.Array:
    """The stage of tone operations; `share` is the magnitude divided by its maximum, in [0, 1]."""
    results = {
        "posterize": tone.posterize(image, 8 - jnp.round(4 * share).astype(jnp.int32)),
        "solarize": tone.solarize(image, 255 * (1 - share)),
        "autocontrast": tone.autocontrast(image),
        "equalize": tone.equalize(image),
    }
    for name in TONES:
        image = jnp.where(_is(operation, name), results[name], image)
    return image


def apply(
    image: jax.Array,
    operation: jax.Array | int,
    magnitude: jax.Array | float,
    negative: jax.Array | bool = False,
    method: str = "nearest",
    fill: float = 0.0,
) -> jax.Array:
    """Applies one operation.

    Args:
      image: float32 (height, width, 3) in [0, 1].
      operation: the index in `TRANSFORMS`.
      magnitude: the magnitude, 0 … 30; it need not be an integer.
      negative: whether to use the negative sign, for operations that have a sign.
      method: as in `geometry.warp`; the default is torchvision's.
      fill: as in `geometry.warp`; the default is torchvision's.
    """
    operation = jnp.asarray(operation)
    share = jnp.asarray(magnitude, jnp.float32) / (LEVELS - 1)
    amount = jnp.where(negative, -share, share)
    stages = (
        lambda image: _move(image, operation, amount, method, fill),
        lambda image: _blend(image, operation, amount),
        lambda image: _tone(image, operation, share),
    )
    # A loop instead of a chain of calls: otherwise XLA recomputes a stage's pixels each time the next stage reads them.
    image, _ = jax.lax.scan(
        lambda image, stage: (jax.lax.switch(stage, stages, image), None), image, jnp.arange(len(stages))
    )
    return image


def randaugment(
    key: jax.Array,
    image: jax.Array,
    operations: int = 2,
    magnitude: float = 9.0,
    spread: float = 0.0,
    probability: float = 1.0,
    method: str = "nearest",
    fill: float = 0.0,
) -> jax.Array:
    """Applies a number of random operations, one after the other.

    Args:
      key: the key of the image.
      image: float32 (height, width, 3) in [0, 1].
      operations: the number of operations, which are sampled with replacement.
      magnitude: the magnitude, 0 … 30.
      spread: the standard deviation of the magnitude, which is normal and clipped to 0 … 30 (timm's `mstd`).
      probability: the probability that a sampled operation is applied (timm: 0.5; torchvision and the paper: 1).
      method: as in `geometry.warp`.
      fill: as in `geometry.warp`.
    """

    def layer(image: jax.Array, random: jax.Array) -> tuple[jax.Array, None]:
        choice, sign, chance, normal = random
        operation = jnp.where(chance < probability, below(choice, len(TRANSFORMS)), 0)
        level = jnp.clip(magnitude + spread * jax.scipy.special.ndtri(normal + 2**-25), 0, LEVELS - 1)
        return apply(image, operation, level, sign < 0.5, method, fill), None

    image, _ = jax.lax.scan(layer, image, uniforms(key, operations, 4))
    return image
