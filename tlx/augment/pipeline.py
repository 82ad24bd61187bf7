"""Augmentation of a batch, as its settings say."""

from collections.abc import Callable

import dm_pix
import jax
import jax.numpy as jnp

from tlx.augment.color import color_jitter, greyscale
from tlx.augment.crop import random_padded_crop, random_resized_crop
from tlx.augment.erase import random_erasing
from tlx.augment.geometry import random_affine
from tlx.augment.keys import derive, example_keys, uniforms
from tlx.augment.mixing import Mix, mix_images
from tlx.augment.randaugment import randaugment
from tlx.augment.settings import Augmentation
from tlx.errors import TlxError

Operation = Callable[[jax.Array, jax.Array], jax.Array]


def maybe(key: jax.Array, probability: float, changed: jax.Array, image: jax.Array) -> jax.Array:
    """The changed image with a probability, else the image."""
    return jnp.where(uniforms(key, 1)[0] < probability, changed, image)


def operations(settings: Augmentation) -> list[tuple[int, Operation]]:
    """The operations that are on, in order, each `(key, image) -> image` with the number of its stream of draws.

    An operation keeps its number, so that turning another on or off leaves its draws as they are.
    """
    s = settings

    def inception(key: jax.Array, image: jax.Array) -> jax.Array:
        size = (image.shape[0], image.shape[1])
        return random_resized_crop(key, image, size, s.crop, s.ratio, s.interpolation)

    every: list[tuple[bool, Operation]] = [
        (bool(s.crop), inception),
        (s.pad > 0, lambda key, image: random_padded_crop(key, image, s.pad, s.fill)),
        (s.flip > 0, lambda key, image: maybe(key, s.flip, dm_pix.flip_left_right(image), image)),
        (s.vertical_flip > 0, lambda key, image: maybe(key, s.vertical_flip, dm_pix.flip_up_down(image), image)),
        (
            s.rotate > 0 or s.shear > 0 or s.translate > 0 or bool(s.zoom),
            lambda key, image: random_affine(key, image, s.rotate, s.translate, s.zoom, s.shear, s.warp, s.fill),
        ),
        (
            s.randaugment_ops > 0,
            lambda key, image: randaugment(
                key,
                image,
                s.randaugment_ops,
                s.randaugment_magnitude,
                s.randaugment_spread,
                s.randaugment_probability,
                s.warp,
                s.fill,
            ),
        ),
        (
            max(s.brightness, s.contrast, s.saturation, s.hue) > 0,
            lambda key, image: color_jitter(key, image, s.brightness, s.contrast, s.saturation, s.hue),
        ),
        (s.grey > 0, lambda key, image: maybe(key, s.grey, greyscale(image), image)),
        (
            s.erase > 0,
            lambda key, image: random_erasing(key, image, s.erase, s.erase_scale, s.erase_ratio, s.erase_fill),
        ),
    ]
    return [(number, operation) for number, (on, operation) in enumerate(every) if on]


MIX_STREAM = 1_000  # beyond every operation's number


def augment(
    settings: Augmentation, key: jax.Array, images: jax.Array, example_id: jax.Array, valid: jax.Array
) -> tuple[jax.Array, Mix | None]:
    """Images in [0, 1], augmented, and how they were mixed.

    A row depends on the key and its `example_id` alone; mixing on the set of valid ids in the batch too. To be jitted
    with `settings` static: shapes do not depend on what is drawn.

    Args:
      settings: what to do.
      key: of the run's seed, the stream and the step, and not of the micro-batch.
      images: uint8 (batch, height, width, 3).
      example_id: integers (batch,), or what `keys.split_ids` made of them.
      valid: bool (batch,); rows that are not valid are changed too, but nobody is mixed with them.

    Returns:
      float32 (batch, height, width, 3), and (partner, lam) as of `mix_images`, or None where neither mixup nor CutMix
      is on.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.uint8:
        raise TlxError(
            f"images must be uint8 (batch, height, width, 3); found {images.dtype} {images.shape}. "
            "Augment before images are turned into floats and normalised."
        )
    result = images.astype(jnp.float32) / 255
    chosen = operations(settings)
    if chosen:

        def one(key: jax.Array, image: jax.Array) -> jax.Array:
            for number, operation in chosen:
                image = operation(derive(key, number), image)
            return image

        result = jax.vmap(one)(example_keys(key, example_id), result)
    if not settings.mixup and not settings.cutmix:
        return result, None
    return mix_images(
        jax.random.fold_in(key, MIX_STREAM),
        result,
        example_id,
        valid,
        settings.mixup,
        settings.cutmix,
        settings.switch,
        settings.mix_per,
    )
