"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images mixed with a partner of the same batch."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from tlx.augment.boxes import box_mask
from tlx.augment.keys import example_keys, id_halves
from tlx.errors import TlxError

PER = ("batch", "example")


class Mix(NamedTuple):
    """partner: each row's partner, int32 (batch,). lam: the share of the row itself, float32 (batch,)."""

    partner: jax.Array
    lam: jax.Array


def draw_partners(key: jax.Array, example_id: jax.Array, valid: jax.Array) -> jax.Array:
    """Each valid row's partner: the next in the cyclic order of a hash of (key, example_id).

    It depends on the set of valid examples in the batch alone: neither on the order of rows, on padding nor on devices.
    Rows that are not valid, and a row alone, are their own partners. Where a step is cut into micro-batches, a partner
    is of the same micro-batch, since its pixels are needed: mixing depends on how they are cut.

    Args:
      key: of seed and step.
      example_id: integers (batch,), or split as in `keys`; no two valid rows alike, or these are told apart by order.
      valid: bool (batch,).

    Returns:
      Row numbers, int32 (batch,).
    """
    rows = valid.shape[0]
    low, high = id_halves(example_id)
    drawn = jax.vmap(jax.random.bits)(example_keys(key, example_id))
    *_, order = jax.lax.sort((~valid, drawn, high, low, jnp.arange(rows)), num_keys=4)
    place = jnp.arange(rows)
    count = jnp.sum(valid)
    following = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros(rows, jnp.int32).at[order].set(order[following])


def draw_share(key: jax.Array, mixup: float, cutmix: float, switch: float) -> tuple[jax.Array, jax.Array]:
    """λ and whether it is CutMix's; timm's convention.

    Args:
      key: one key.
      mixup, cutmix: α of Beta(α, α), from which λ is drawn; 0 is off.
      switch: the probability of CutMix where both are on.
    """
    choice_key, share_key = jax.random.split(key)
    cuts = jax.random.uniform(choice_key) < (switch if mixup and cutmix else float(cutmix > 0))
    alpha = jnp.where(cuts, cutmix, mixup)
    return jax.random.beta(share_key, alpha, alpha), cuts


def draw_cut(key: jax.Array, lam: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """CutMix's box, (height, width, 1) bool, and the share of the image that it leaves (Yun et al. 2019, eq. 2).

    Its sides are those of the image times √(1 - λ), about a uniform centre, cut at the border; λ is corrected for that.
    """
    row_key, column_key = jax.random.split(key)
    edges = []
    for side_key, side in ((row_key, height), (column_key, width)):
        half = jnp.floor(side * jnp.sqrt(1 - lam)).astype(jnp.int32) // 2
        centre = jax.random.randint(side_key, (), 0, side)
        edges.append((jnp.clip(centre - half, 0, side), jnp.clip(centre + half, 0, side)))
    (top, bottom), (left, right) = edges
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return box_mask(height, width, top, left, bottom, right), kept


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
    """Images mixed with their partners, and what the loss needs:

        lam · loss(labels) + (1 - lam) · loss(labels[partner])

    Args:
      key: of seed and step.
      images: float32 (batch, height, width, 3).
      example_id, valid: as in `draw_partners`.
      mixup, cutmix, switch: as in `draw_share`; at least one α is above 0.
      per: `batch`: one λ, and one box, for all (as published); `example`: one each.
    """
    if per not in PER:
        raise TlxError(f"mix_per is {per!r}; tlx has {', '.join(PER)}.")
    rows, height, width, _ = images.shape
    partner_key, draw_key = jax.random.split(key)
    partner = draw_partners(partner_key, example_id, valid)

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The weight of the row itself by pixel, (height, width, 1), and in the label."""
        share_key, cut_key = jax.random.split(key)
        lam, cuts = draw_share(share_key, mixup, cutmix, switch)
        if not cutmix:
            return jnp.broadcast_to(lam, (1, 1, 1)), lam
        box, kept = draw_cut(cut_key, lam, height, width)
        return jnp.where(cuts, jnp.where(box, 0.0, 1.0), lam), jnp.where(cuts, kept, lam)

    if per == "batch":
        weight, lam = draw(draw_key)
        weight, lam = weight[None], jnp.broadcast_to(lam, (rows,))
    else:
        weight, lam = jax.vmap(draw)(example_keys(draw_key, example_id))
    mixed = weight * images + (1 - weight) * jnp.take(images, partner, axis=0)
    return mixed, Mix(partner, lam)


def mix_labels(labels: jax.Array, partner: jax.Array, lam: jax.Array, num_classes: int) -> jax.Array:
    """lam · label + (1 - lam) · the partner's, float32 (batch, num_classes).

    labels: integers (batch,), or soft labels (batch, num_classes).
    """
    soft = labels.astype(jnp.float32) if labels.ndim == 2 else jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    chex.assert_shape(soft, (partner.shape[0], num_classes))
    share = lam[:, None]
    return share * soft + (1 - share) * soft[partner]
