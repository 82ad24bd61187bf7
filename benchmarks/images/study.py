"""Images per second of tlx's input pipeline, compared with torch's DataLoader and transformers' image processor.

    python benchmarks/images/study.py --workdir=runs/images

Two data sets are resized to 224: JPEGs with a longer edge of 500 pixels, as in ImageNet, and arrays of 32 × 32
(CIFAR-10 if TLX_DATA is set). Every way of reading is its own process, which reads the set once as warm-up and is
timed the second time. The processes take turns, so that machine load affects all alike, and the median of the rounds
is reported. Both sides produce float32 batches, and their means are compared. On the side of tlx, NumPy does the
rescaling that normally happens on the device. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, found_by, publish

from tlx.errors import TlxError, one_sentence

HERE = Path(__file__).parent
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
}  # fmt: skip
# Name -> the side, its script, and the script's options.
WAYS = {
    "tlx, 1 thread": ("tlx", "ours.py", 1, 0),
    "tlx, 2 threads": ("tlx", "ours.py", 2, 0),
    "tlx, pixels kept": ("tlx", "ours.py", 2, 2**40),
    "DataLoader, no workers": ("torch", "theirs.py", 0),
    "DataLoader, 2 workers": ("torch", "theirs.py", 2),
}


def main() -> None:
    """Writes the images once, measures, writes the table."""
    parser = arguments(__doc__, "runs/images")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000, help="images in each set")
    options = parser.parse_args()
    workdir = options.workdir / str(options.images)
    if not (workdir / "written").exists():
        write(workdir, options.images)
    rows = []
    found = {(name, way): [] for name in ("jpeg", "arrays") for way in WAYS}
    for _ in range(options.repeats):
        for name, way in found:
            found[name, way].append(measure(workdir, name, way))
    for way in WAYS:
        rates = [statistics.median(rate for rate, _ in found[name, way]) for name in ("jpeg", "arrays")]
        rows.append((way, *(f"{rate:.0f}" for rate in rates)))
    for name in ("jpeg", "arrays"):
        check(name, {way: found[name, way][0][1] for way in WAYS})
    header = ("reads", "JPEGs to 224, images/s", "32 × 32 to 224, images/s")
    note = f"{os.cpu_count()} cores; {options.images} images of each kind, batches of 32; median of {options.repeats}."
    publish(workdir, "images per second", header, rows, above=note)


def write(workdir: Path, images: int) -> None:
    """Writes the processor's config, the JPEGs and the arrays."""
    (workdir / "jpeg").mkdir(parents=True, exist_ok=True)
    (workdir / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    arrays = small(images)
    np.save(workdir / "arrays.npy", arrays)
    for number, array in enumerate(arrays):  # enlarged, with noise, so that files are as large as photographs
        size = (500, 375) if number % 3 else (333, 500)
        large = np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        grain = np.random.default_rng(number).normal(0, 8, large.shape).astype(np.int16)
        photo = Image.fromarray((large + grain).clip(0, 255).astype(np.uint8))
        photo.save(workdir / "jpeg" / f"{number:06}.jpg", quality=90)
    (workdir / "written").touch()


def small(images: int) -> np.ndarray:
    """uint8 (images, 32, 32, 3): images of CIFAR-10, or noise without TLX_DATA."""
    if "TLX_DATA" not in os.environ:
        return np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3)).astype(np.uint8)
    found = np.load(Path(os.environ["TLX_DATA"]) / "cifar10" / "train.npz")["image"]
    return found[np.arange(images) % len(found)]


def measure(workdir: Path, name: str, way: str) -> tuple[float, float]:
    """Measures images per second and the mean of all values."""
    side, script, *options = WAYS[way]
    found = found_by(side, HERE / script, workdir, name, *options)
    print(f"{name}, {way}: {found['rate']:.1f} images/s", flush=True)
    return found["rate"], found["mean"]


def check(name: str, means: dict[str, float]) -> None:
    """Checks that all ways read the same values."""
    if max(means.values()) - min(means.values()) > 1e-5:
        raise TlxError(f"{name}: the ways of reading differ in the mean of what they read, {means}.")


if __name__ == "__main__":
    with one_sentence():
        main()
