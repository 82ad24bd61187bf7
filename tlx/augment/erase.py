"""Random erasing (Zhong, Zheng, Kang, Li, Yang 2020)."""

import jax
import jax.numpy as jnp

from tlx.augment.boxes import box_mask, draw_box
from tlx.augment.keys import derive, uniforms


def random_erasing(
    key: jax.Array,
    image: jax.Array,
    probability: float = 0.5,
    scale: tuple[float, ...] = (0.02, 1 / 3),
    ratio: tuple[float, ...] = (0.3, 1 / 0.3),
    fill: float | None = None,
) -> jax.Array:
    """A box replaced; nothing happens where none of ten drawn boxes fits.

    Boxes are those of torchvision and timm, whose defaults these are; in the paper's algorithm 1 the aspect ratio is
    uniform, with them log-uniform.

    Args:
      key: of the image.
      image: float32 (height, width, 3) in [0, 1].
      probability: of erasing.
      scale: the box's share of the area, uniform within.
      ratio: width / height, log-uniform within.
      fill: the value of all its pixels; None: each value uniform in [0, 1] (the paper's RE-R). timm draws from N(0, 1)
        after normalisation instead, beyond what [0, 1] holds.
    """
    height, width, _ = image.shape
    box, fits = draw_box(derive(key, 0), height, width, scale, ratio)
    chosen = fits & (uniforms(derive(key, 1), 1)[0] < probability)
    inside = box_mask(height, width, box.top, box.left, box.top + box.height, box.left + box.width) & chosen
    return jnp.where(inside, uniforms(derive(key, 2), *image.shape) if fill is None else fill, image)
