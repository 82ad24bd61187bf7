"""Which elements dropout keeps in the reference outputs: a pattern that any implementation can make again.

It depends on the site (the how-manieth dropout of a forward pass), the shape and the rate, so that a dropout that
is moved, left out, doubled or given another rate changes every number after it.
"""

import numpy as np


def keep_pattern(site: int, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Boolean array of `shape`, True with probability 1 - rate; the same for the same arguments, everywhere."""
    uniform = np.random.RandomState([site, round(rate * 10_000), *shape]).uniform(size=shape)
    return uniform >= rate
