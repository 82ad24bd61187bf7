"""Augmentation of a batch, as its settings say."""

import jax
import jax.numpy as jnp

from tlx.augment.keys import derive, example_keys
from tlx.augment.mixing import Mix, mix_images
from tlx.augment.settings import Augmentation
from tlx.errors import TlxError

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
    chosen = [(stream, operation) for stream, operation in settings.operations if operation.on]
    if chosen:

        def one(key: jax.Array, image: jax.Array) -> jax.Array:
            for stream, operation in chosen:
                image = operation(derive(key, stream), image)
            return image

        result = jax.vmap(one)(example_keys(key, example_id), result)
    mixing = settings.mixing
    if not mixing.on:
        return result, None
    return mix_images(
        jax.random.fold_in(key, MIX_STREAM), result, example_id, valid,
        mixing.mixup, mixing.cutmix, mixing.switch, mixing.mix_per,
    )  # fmt: skip
