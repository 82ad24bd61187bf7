"""Reads a data set with torch: one epoch as warm-up, one timed epoch. Run by the Python with torch.

python theirs.py WORKDIR jpeg|arrays WORKERS
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.image_utils import load_image


class Images(torch.utils.data.Dataset):
    """Opens an image and applies the processor, as transformers' image classification examples do."""

    def __init__(self, workdir: Path, name: str):
        self.processor = transformers.AutoImageProcessor.from_pretrained(workdir, backend="pil")
        self.images = sorted((workdir / name).iterdir()) if name == "jpeg" else np.load(workdir / "arrays.npy")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        image = self.images[row]
        opened = Image.fromarray(image) if isinstance(image, np.ndarray) else load_image(str(image))
        return self.processor(opened, return_tensors="pt")["pixel_values"][0]


def main(workdir: Path, name: str, workers: int) -> None:
    """Prints the rate and the mean as JSON."""
    images = Images(workdir, name)
    batches = torch.utils.data.DataLoader(images, 32, num_workers=workers, persistent_workers=workers > 0)
    for _ in range(2):
        started, total = time.perf_counter(), 0.0
        for batch in batches:
            total += batch.mean(dtype=torch.float64).item() * len(batch)
        seconds = time.perf_counter() - started
    print(json.dumps({"rate": len(images) / seconds, "mean": total / len(images)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
