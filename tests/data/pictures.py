"""Pictures made on the spot: noise of any shape, and files of every odd kind that Pillow reads."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(shape: tuple[int, ...], seed: int, dtype: type = np.uint8) -> np.ndarray:
    """Uniform over the dtype's range."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (height, width, 3) with slopes and edges, as photographs have them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(0, 0.3, (3, 3))]
    image = np.stack(waves, -1) * 100 + 128
    image[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = random.integers(0, 256, 3)
    return image.clip(0, 255).astype(np.uint8)


def odd_files(folder: Path) -> list[Path]:
    """Written into the folder: all modes, transparency of all kinds, every EXIF orientation, animations, odd sizes."""
    rgb = Image.fromarray(smooth(37, 23, 0))
    rgba = Image.fromarray(noise((19, 31, 4), 1), "RGBA")
    files: list[Path] = []

    def save(image: Image.Image, name: str, **options: object) -> None:
        files.append(folder / name)
        image.save(files[-1], **options)

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(noise((9, 11), 2, np.uint16)) if mode == "I;16" else rgba.convert(mode)
        save(image, f"mode_{mode.replace(';', '_')}.png")
    save(rgb.convert("P"), "palette_index.png", transparency=3)
    save(rgb.convert("P"), "palette_bytes.png", transparency=bytes(range(256)))
    save(rgb, "colour_key.png", transparency=tuple(np.asarray(rgb)[0, 0].tolist()))
    save(rgb.convert("L"), "grey_key.png", transparency=128)
    for mode in ("L", "RGB", "CMYK"):
        save(rgb.convert(mode), f"mode_{mode}.jpg", quality=90)
    save(rgb, "progressive.jpg", progressive=True, subsampling=2)
    for mode in ("1", "L", "RGBA", "CMYK", "LAB", "F", "I"):
        save((rgb.convert("L") if mode in "FI" else rgb).convert(mode), f"mode_{mode}.tiff")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(rgb, f"turned_{orientation}.jpg", exif=exif)
    frames = [Image.fromarray(smooth(13, 17, seed)) for seed in range(3)]
    for suffix in ("gif", "webp", "png", "tiff"):
        save(frames[0], f"animated.{suffix}", save_all=True, append_images=frames[1:])
    for suffix in ("bmp", "webp", "jp2", "ppm", "tga"):
        save(rgb, f"plain.{suffix}")
    for height, width in ((1, 300), (7, 5), (1000, 3), (1, 1)):
        save(Image.fromarray(smooth(height, width, height)), f"size_{height}x{width}.png")
    return files
