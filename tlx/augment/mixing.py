"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images are mixed with another image of the same batch."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from tlx.augment.boxes import box_mask
from tlx.augment.keys import example_keys, id_halves
from tlx.errors import TlxError
from tlx.parallel.axis import gathered, own_rows

PER = ("batch", "example")


class Mix(NamedTuple):
    """How a batch was mixed.

    Attributes:
      partner: the row with which each row was mixed, int32 (batch,); a row of the batch of all devices under
        `parallel.mode=pmap`.
      lam: λ, the weight of the row itself, float32 (batch,).
    """

    partner: jax.Array
    lam: jax.Array


def draw_partners(key: jax.Array, example_id: jax.Array, valid: jax.Array) -> jax.Array:
    """Samples a partner for each valid row: the next one in a random cyclic order of the valid rows.

    The order is that of a hash of (key, example_id), so it depends only on the set of valid examples and not on the
    order of rows, padding or devices. A row that is not valid, or the only valid row, is its own partner. If a step is
    split into micro-batches, partners are from the same micro-batch, because their pixels are needed; mixing then
    depends on the split.

    Args:
      key: the key of the run's seed and the step.
      example_id: integers (batch,), or split by `keys.split_ids`. If valid rows have the same id, their order in the
        batch decides.
      valid: bool (batch,), False for rows of padding.

    Returns:
      The row number of each row's partner, int32 (batch,).
    """
    rows = valid.shape[0]
    low, high = id_halves(example_id)
    bits = jax.vmap(jax.random.bits)(example_keys(key, example_id))
    *_, order = jax.lax.sort((~valid, bits, high, low, jnp.arange(rows)), num_keys=4)
    place = jnp.arange(rows)
    count = jnp.sum(valid)
    next_place = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros(rows, jnp.int32).at[order].set(order[next_place])


def draw_share(key: jax.Array, mixup: float, cutmix: float, switch: float) -> tuple[jax.Array, jax.Array]:
    """Samples λ, and whether to use CutMix or Mixup; timm's convention.

    Args:
      key: the key.
      mixup: α of the distribution Beta(α, α) of λ for Mixup; 0 to disable it.
      cutmix: α of the distribution Beta(α, α) of λ for CutMix; 0 to disable it.
      switch: the probability of CutMix if both are enabled.

    Returns:
      λ, float32 (); and whether to use CutMix, bool ().
    """
    choice_key, share_key = jax.random.split(key)
    use_cutmix = jax.random.uniform(choice_key) < (switch if mixup and cutmix else float(cutmix > 0))
    alpha = jnp.where(use_cutmix, cutmix, mixup)
    return jax.random.beta(share_key, alpha, alpha), use_cutmix


def draw_cut(key: jax.Array, lam: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Samples the box of CutMix (Yun et al. 2019, eq. 2).

    The sides are those of the image times √(1 - λ), the center is uniform, and the box is clipped to the image.

    Args:
      key: the key.
      lam: λ, ().
      height: the height of the image.
      width: the width of the image.

    Returns:
      A mask, bool (height, width, 1), True inside the box; and the fraction of the image outside the box, which is λ
      corrected for clipping.
    """
    row_key, column_key = jax.random.split(key)
    edges = []
    for side_key, side in ((row_key, height), (column_key, width)):
        half = jnp.floor(side * jnp.sqrt(1 - lam)).astype(jnp.int32) // 2
        center = jax.random.randint(side_key, (), 0, side)
        edges.append((jnp.clip(center - half, 0, side), jnp.clip(center + half, 0, side)))
    (top, bottom), (left, right) = edges
    outside = 1 - (bottom - top) * (right - left) / (height * width)
    return box_mask(height, width, top, left, bottom, right), outside


def mix_images(
    key: jax.Array,
    images: jax.Array,
    example_id: jax.Array,
    valid: jax.Array,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    switch: float = 0.5,
    per: str = "batch",
) -> tuple[jax.Array, Mix]:
    """Mixes images with their partners. The loss is then lam · loss(labels) + (1 - lam) · loss(labels[partner]).

    Args:
      key: the key of the run's seed and the step.
      images: float32 (batch, height, width, 3).
      example_id: as in `draw_partners`.
      valid: as in `draw_partners`.
      mixup: as in `draw_share`; `mixup` or `cutmix` must be above 0.
      cutmix: as in `draw_share`.
      switch: as in `draw_share`.
      per: `batch` for one λ and one box for the batch (as published), `example` for one for each example.

    Returns:
      The mixed images, and how they were mixed.

    Raises:
      TlxError: if `per` has another value.
    """
    if per not in PER:
        raise TlxError(f"mix_per is {per!r}; tlx has {', '.join(PER)}.")
    rows, height, width, _ = images.shape
    partner_key, draw_key = jax.random.split(key)
    partner = own_rows(draw_partners(partner_key, *gathered((example_id, valid))), rows)

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The weight of the row itself, for each pixel (height, width, 1) and for the label ()."""
        share_key, cut_key = jax.random.split(key)
        lam, use_cutmix = draw_share(share_key, mixup, cutmix, switch)
        if not cutmix:
            return jnp.broadcast_to(lam, (1, 1, 1)), lam
        box, outside = draw_cut(cut_key, lam, height, width)
        return jnp.where(use_cutmix, jnp.where(box, 0.0, 1.0), lam), jnp.where(use_cutmix, outside, lam)

    if per == "batch":
        weight, lam = draw(draw_key)
        weight, lam = weight[None], jnp.broadcast_to(lam, (rows,))
    else:
        weight, lam = jax.vmap(draw)(example_keys(draw_key, example_id))
    mixed = weight * images + (1 - weight) * jnp.take(gathered(images), partner, axis=0)
    return mixed, Mix(partner, lam)


def mix_labels(labels: jax.Array, partner: jax.Array, lam: jax.Array, num_classes: int) -> jax.Array:
    """Mixes labels as the images were mixed: lam · label + (1 - lam) · the partner's label.

    Args:
      labels: integers (batch,), or soft labels (batch, num_classes).
      partner: the row number of each row's partner, (batch,).
      lam: λ, (batch,).
      num_classes: the number of classes.

    Returns:
      Soft labels, float32 (batch, num_classes).
    """
    soft = labels.astype(jnp.float32) if labels.ndim == 2 else jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    chex.assert_shape(soft, (partner.shape[0], num_classes))
    return mix_targets(soft, partner, lam)


def mix_targets(targets: jax.Array, partner: jax.Array, lam: jax.Array) -> jax.Array:
    """Mixes numbers, such as the targets of a regression, as the images were mixed.

    Args:
      targets: float32 (batch, outputs).
      partner: the row number of each row's partner, (batch,).
      lam: λ, (batch,).
    """
    share = lam[:, None]
    return share * targets + (1 - share) * gathered(targets)[partner]
