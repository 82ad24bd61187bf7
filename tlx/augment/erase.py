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
    """Replaces a random box of an image. The image is unchanged if none of ten sampled boxes fits.

    Boxes are sampled as in torchvision and timm, whose defaults are used: the aspect ratio is log-uniform. In the
    paper's algorithm 1 it is uniform.

    Args:
      key: the key of the image.
      image: float32 (height, width, 3) in [0, 1].
      probability: the probability of erasing.
      scale: the range of the box's fraction of the area, which is uniform.
      ratio: the range of width / height, which is log-uniform.
      fill: the value of all pixels of the box; None for uniform random values in [0, 1] (the paper's RE-R). timm
        instead samples from N(0, 1) after normalization, which is not limited to [0, 1].
    """
    height, width, _ = image.shape
    box, fits = draw_box(derive(key, 0), height, width, scale, ratio)
    erased = fits & (uniforms(derive(key, 1), 1)[0] < probability)
    inside = box_mask(height, width, box.top, box.left, box.top + box.height, box.left + box.width) & erased
    return jnp.where(inside, uniforms(derive(key, 2), *image.shape) if fill is None else fill, image)
