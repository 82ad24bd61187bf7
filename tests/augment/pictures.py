"""Images that tests of augmentation share: a photo, noise, noise in few levels, and one with a flat channel."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def pictures() -> list[np.ndarray]:
    """uint8 (height, width, 3), all 40 × 52, so that an operation compiles once."""
    random = np.random.default_rng(0)
    photo = np.asarray(Image.fromarray(load_sample_images().images[0]).resize((52, 40)))
    noise = random.integers(0, 256, (40, 52, 3), dtype=np.uint8)
    flat = noise.copy()
    flat[..., 1] = 77
    return [photo, noise, noise // 4 + 60, flat]


def as_float(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / np.float32(255)
