"""Position embeddings of one grid of patches, carried over to another (Dosovitskiy et al. 2021, 3.2)."""

import jax
import jax.numpy as jnp
import numpy as np

SHARPNESS = -0.75  # the `a` of the cubic kernel (Keys 1981, eq. 4) that torch's bicubic interpolation has


def interpolate(table: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """Bicubic, as `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.

    Args:
      table: (1, tokens + down · across, hidden): tokens that stand nowhere (kept as they are), then the patches' rows.
      old, new: the grids, (down, across).

    Returns:
      (1, tokens + new down · new across, hidden).
    """
    if old == new:
        return table
    tokens = table.shape[1] - old[0] * old[1]
    grid = table[:, tokens:].reshape(1, *old, -1)
    down, across = (jnp.asarray(cubic_weights(a, b), table.dtype) for a, b in zip(old, new, strict=True))
    grid = jnp.einsum("yh,xw,bhwd->byxd", down, across, grid)
    return jnp.concatenate([table[:, :tokens], grid.reshape(1, new[0] * new[1], -1)], axis=1)


def cubic_weights(old: int, new: int) -> np.ndarray:
    """float64 (new, old): what each of `new` samples takes of each of `old`, edges repeated beyond the ends."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        distance = np.abs(centre - (first + offset))
        near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance**2 + 1
        far = SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
        taken = np.where(distance <= 1, near, far)
        np.add.at(weights, (np.arange(new), np.clip(first + offset, 0, old - 1)), taken)
    return weights
