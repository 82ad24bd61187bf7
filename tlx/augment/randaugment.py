"""RandAugment (Cubuk, Zoph, Shlens, Le 2020): some operations drawn uniformly, all at one magnitude.

Operations and their ranges are torchvision's `RandAugment`: magnitude m of `LEVELS` - 1 = 30 gives

    identity, autocontrast, equalize                 —
    shear_x, shear_y                                 ± 0.3 · m / 30
    translate_x, translate_y                         ± 150 / 331 · m / 30 of the width, the height, in whole pixels
    rotate                                           ± 30° · m / 30
    brightness, color, contrast, sharpness           factor 1 ± 0.9 · m / 30
    posterize                                        8 - round(4 · m / 30) bits
    solarize                                         threshold 255 · (1 - m / 30)

Under `vmap` a `lax.switch` runs every branch, here fourteen. But every operation is of one of three kinds: it moves
pixels along a map, blends the image with a degenerate one, or maps its levels. So each layer runs one stage of each
kind, of which the drawn operation decides the parameters, and two stages at least change nothing.
"""

import jax
import jax.numpy as jnp

from tlx.augment import geometry, tone
from tlx.augment.color import blend, luminance, mean_luminance
from tlx.augment.keys import below, uniforms

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "color", "contrast", "sharpness")
TONES = ("posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *GEOMETRIC, *BLENDS, *TONES)
LEVELS = 31


def _is(operation: jax.Array, name: str) -> jax.Array:
    return operation == OPERATIONS.index(name)


def _move(image: jax.Array, operation: jax.Array, amount: jax.Array, method: str, fill: float) -> jax.Array:
    """The geometric stage; `amount` is the signed share of the range, in [-1, 1]."""
    height, width, _ = image.shape
    maps = {
        "shear_x": geometry.shear_x(0.3 * amount),
        "shear_y": geometry.shear_y(0.3 * amount),
        "translate_x": geometry.translate_x(jnp.trunc(150 / 331 * width * amount)),
        "translate_y": geometry.translate_y(jnp.trunc(150 / 331 * height * amount)),
        "rotate": geometry.rotate(30 * amount, height, width),
    }
    chosen = geometry.identity()
    for name in GEOMETRIC:
        chosen = jnp.where(_is(operation, name), maps[name], chosen)
    return geometry.warp(image, chosen, method, fill)


def _blend(image: jax.Array, operation: jax.Array, amount: jax.Array) -> jax.Array:
    """The stage of blends, which differ in the degenerate image alone; `amount` is signed."""
    grey = luminance(image)
    degenerate = jnp.where(_is(operation, "contrast"), mean_luminance(image), grey)
    degenerate = jnp.where(_is(operation, "brightness"), 0, degenerate)
    degenerate = jnp.where(_is(operation, "sharpness"), tone.smooth(image), degenerate)
    some = jnp.any(jnp.stack([_is(operation, name) for name in BLENDS]))
    return jnp.where(some, blend(degenerate, image, 1 + 0.9 * amount), image)


def _tone(image: jax.Array, operation: jax.Array, share: jax.Array) -> jax.Array:
    """The stage of levels; `share` of the range is in [0, 1]."""
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
    """One operation.

    Args:
      image: float32 (height, width, 3) in [0, 1].
      operation: index into `OPERATIONS`.
      magnitude: 0 … 30, whole or not.
      negative: takes the other sign, where there is one.
      method, fill: of `geometry.warp`; torchvision's defaults.
    """
    operation = jnp.asarray(operation)
    share = jnp.asarray(magnitude, jnp.float32) / (LEVELS - 1)
    amount = jnp.where(negative, -share, share)
    stages = (
        lambda image: _move(image, operation, amount, method, fill),
        lambda image: _blend(image, operation, amount),
        lambda image: _tone(image, operation, share),
    )
    # A loop, not a chain: XLA would work a pixel of one stage out anew at each of its readings in the next.
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
    """`operations` drawn operations, one after the other.

    Args:
      key: of the image.
      image: float32 (height, width, 3) in [0, 1].
      operations: how many; drawn with replacement.
      magnitude: 0 … 30.
      spread: each operation's magnitude is drawn from N(magnitude, spread²), cut to 0 … 30 (timm's `mstd`).
      probability: with which a drawn operation is applied (timm: 0.5; torchvision and the paper: 1).
      method, fill: of `geometry.warp`.
    """

    def layer(image: jax.Array, drawn: jax.Array) -> tuple[jax.Array, None]:
        which, sign, chance, normal = drawn
        operation = jnp.where(chance < probability, below(which, len(OPERATIONS)), 0)
        level = jnp.clip(magnitude + spread * jax.scipy.special.ndtri(normal + 2**-25), 0, LEVELS - 1)
        return apply(image, operation, level, sign < 0.5, method, fill), None

    image, _ = jax.lax.scan(layer, image, uniforms(key, operations, 4))
    return image
