"""The side of torch and transformers, with its own implementation of the recipe. study.py runs it in the other Python.

python theirs.py job.json
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import ViTForImageClassification


def main(file: str) -> None:
    """Writes the logits of all runs of the job, (runs, examples, classes)."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    with np.load(job["data"]) as data:
        pixels = torch.from_numpy(data["pixels"]).permute(0, 3, 1, 2)  # uint8 (n, 3, height, width)
        labels = torch.from_numpy(data["labels"])
        tested = pixels[torch.from_numpy(data["tested"])]
        runs = [(data[f"rows{run}"], data[f"kernel{run}"], data[f"bias{run}"]) for run in range(len(job["seeds"]))]
    predictions, started = [], time.perf_counter()
    for seed, (rows, kernel, bias) in zip(job["seeds"], runs, strict=True):
        torch.manual_seed(seed)
        np.random.seed(seed)
        model = ViTForImageClassification.from_pretrained(
            job["checkpoint"], num_labels=kernel.shape[1], ignore_mismatched_sizes=True
        )
        with torch.no_grad():
            model.classifier.weight.copy_(torch.from_numpy(kernel.T.copy()))
            model.classifier.bias.copy_(torch.from_numpy(bias))
        train(model, pixels, labels, torch.from_numpy(rows), job["recipe"])
        predictions.append(predict(model, tested))
    np.savez(job["out"], predictions=np.stack(predictions), seconds=time.perf_counter() - started)


def train(model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, recipe: dict) -> None:
    """AdamW with warm-up over a tenth of the run, then linear decay to zero; no weight decay of biases and norms."""
    groups: dict[float, list[torch.Tensor]] = {0.0: [], recipe["weight_decay"]: []}
    for name, parameter in model.named_parameters():
        decays = not name.endswith("bias") and "layernorm" not in name
        groups[recipe["weight_decay"] if decays else 0.0].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()],
        lr=recipe["learning_rate"],
    )
    total, rising = len(rows), len(rows) // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / rising if step < rising else (total - step) / (total - rising)
    )
    model.train()
    for chosen in rows:
        chosen = chosen[chosen >= 0]
        images, partner, share = augmented(pixels[chosen], recipe)
        logits, targets = model(scaled(images)).logits, labels[chosen]
        loss = share * cross_entropy(logits, targets) + (1 - share) * cross_entropy(logits, targets[partner])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def augmented(images: torch.Tensor, recipe: dict) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Flips images randomly and mixes them (mixup, Zhang et al. 2018) with one weight for the batch.

    Returns:
      The images, the partner of each, the weight.
    """
    flipped = torch.rand(len(images)) < recipe["flip"]
    images = torch.where(flipped[:, None, None, None], images.flip(-1), images).float()
    share = float(np.random.beta(recipe["mixup"], recipe["mixup"])) if recipe["mixup"] else 1.0
    partner = torch.randperm(len(images))
    return share * images + (1 - share) * images[partner], partner, share


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Scales bytes to [-1, 1], as the checkpoint's processor does."""
    return images.float() / 127.5 - 1


def predict(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """The logits of the images."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(scaled(part)).logits for part in images.split(500)]).numpy()


if __name__ == "__main__":
    main(sys.argv[1])
