"""Augmentation of a batch."""

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
    """Applies the operations to each image and mixes the images of the batch.

    An augmented image depends only on the key and its `example_id`; mixing also depends on the set of valid ids in the
    batch. `settings` must be static under `jax.jit`; shapes do not depend on random numbers.

    Args:
      settings: the settings.
      key: a key for the run's seed, the stream and the step; the same for all micro-batches of a step.
      images: uint8 (batch, height, width, 3).
      example_id: integers (batch,), or the result of `keys.split_ids`.
      valid: bool (batch,); rows that are not valid are augmented too, but other rows are not mixed with them.

    Returns:
      The images, float32 (batch, height, width, 3) in [0, 1], and how they were mixed; None without mixup and CutMix.

    Raises:
      TlxError: if `images` has another shape or dtype.
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
