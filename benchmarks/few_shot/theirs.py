"""The side of torch and transformers, with its own implementation of the recipe. peer.py runs it in the other Python.

python theirs.py CHECKPOINT ARRAYS '{"optimizer.learning_rate": 1e-4, …}'
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import ViTForImageClassification


def main(checkpoint: str, arrays: str, fields: dict[str, Any]) -> None:
    """Fine-tunes and prints the accuracies on validation and test."""
    torch.set_num_threads(1)  # the matrices are small
    torch.manual_seed(fields["seed"])
    np.random.seed(fields["seed"])
    with np.load(arrays) as data:
        found = {name: torch.from_numpy(data[name]) for name in data}
    images = {part: found[f"{part}_pixels"].permute(0, 3, 1, 2) for part in ("train", "validation", "test")}
    classes = int(found["train_labels"].max()) + 1
    model = ViTForImageClassification.from_pretrained(checkpoint, num_labels=classes, ignore_mismatched_sizes=True)
    train(model, images["train"], found["train_labels"], fields)
    model.eval()
    right = {}
    for part in ("validation", "test"):
        with torch.no_grad():
            said = torch.cat([model(scaled(some)).logits.argmax(-1) for some in images[part].split(500)])
        right[part] = float((said == found[f"{part}_labels"]).float().mean())
    print(json.dumps(right))


def train(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, fields: dict[str, Any]) -> None:
    """AdamW with warm-up, then linear decay to zero; no weight decay of biases and norms; the head learns faster."""
    rate, factor = fields["optimizer.learning_rate"], fields["params.head_multiplier"]
    groups = [
        {
            "params": [parameter], "lr": rate * (factor if name.startswith("classifier") else 1.0),
            "weight_decay": 0.0 if name.endswith("bias") or "layernorm" in name else 0.01,
        }
        for name, parameter in model.named_parameters()
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(groups)
    size = fields["train.batch_size"]
    total = round(fields["train.epochs"] * -(-len(images) // size))
    rising = round(total * fields["optimizer.warmup_fraction"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / rising if step < rising else (total - step) / (total - rising)
    )
    model.train()
    batches: list[torch.Tensor] = []
    for _ in range(total):
        batches = batches or list(torch.randperm(len(images)).split(size))
        chosen = batches.pop()
        mixed, partner, share = augmented(images[chosen], fields)
        logits, targets = model(scaled(mixed)).logits, labels[chosen]
        loss = share * cross_entropy(logits, targets) + (1 - share) * cross_entropy(logits, targets[partner])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def augmented(images: torch.Tensor, fields: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Flips images randomly and mixes them (mixup, Zhang et al. 2018) with one weight for the batch.

    Returns:
      The images, the partner of each, the weight.
    """
    flipped = torch.rand(len(images)) < fields["augment.flip"]
    images = torch.where(flipped[:, None, None, None], images.flip(-1), images).float()
    share = float(np.random.beta(fields["augment.mixup"], fields["augment.mixup"]))
    partner = torch.randperm(len(images))
    return share * images + (1 - share) * images[partner], partner, share


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Scales bytes to [-1, 1], as the checkpoint's processor does."""
    return images.float() / 127.5 - 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
