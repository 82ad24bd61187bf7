"""Interpolation of position embeddings from one grid of patches to another (Dosovitskiy et al. 2021, 3.2)."""

import jax
import jax.numpy as jnp
import numpy as np

SHARPNESS = -0.75  # the parameter `a` of the cubic kernel (Keys 1981, eq. 4) in torch's bicubic interpolation


def interpolate(table: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """Bicubic interpolation, as `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.

    Args:
      table: (1, tokens + rows · columns, hidden): the embeddings of special tokens, which are not changed, followed by
        those of the patches in row-major order.
      old: the grid of `table`, (rows, columns).
      new: the grid to interpolate to, (rows, columns).

    Returns:
      The new table, (1, tokens + new rows · new columns, hidden).
    """
    if old == new:
        return table
    tokens = table.shape[1] - old[0] * old[1]
    grid = table[:, tokens:].reshape(1, *old, -1)
    rows, columns = (jnp.asarray(cubic_weights(a, b), table.dtype) for a, b in zip(old, new, strict=True))
    grid = jnp.einsum("yh,xw,bhwd->byxd", rows, columns, grid)
    return jnp.concatenate([table[:, :tokens], grid.reshape(1, new[0] * new[1], -1)], axis=1)


def cubic_weights(old: int, new: int) -> np.ndarray:
    """Returns the interpolation weights, float64 (new, old), in one dimension; edge values are repeated outside."""
    center = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(center).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        distance = np.abs(center - (first + offset))
        near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance**2 + 1
        far = SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
        weight = np.where(distance <= 1, near, far)
        np.add.at(weights, (np.arange(new), np.clip(first + offset, 0, old - 1)), weight)
    return weights
