"""Trains a head on a frozen backbone with PyTorch: python theirs_cached.py usual|best RESULT FIELDS.

usual: the Trainer's defaults, with batches in random order and dropout in the backbone. best: texts of similar length
together, no dropout. Three epochs are timed, without reading and tokenizing; `seconds` is `train.epochs` times their
median. FIELDS are those of tlx's config, as JSON.
"""

import csv
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import peak

BATCH, LENGTH = 32, 128


class Classifier(torch.nn.Module):
    """A linear layer on the mean of the tokens."""

    def __init__(self, folder: str):
        super().__init__()
        self.backbone = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)
        self.head = torch.nn.Linear(self.backbone.config.hidden_size, 2)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = self.backbone(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1))


def main(way: str, result: str, fields: str) -> None:
    """Times each epoch, and writes the result."""
    config = json.loads(fields)
    folder, texts = config["model.checkpoint"], os.path.expandvars(config["data.train"].removeprefix("csv:"))
    torch.manual_seed(0)
    with Path(texts).open(encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in kept})
    labels = torch.tensor([classes.index(row["label"]) for row in kept])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer([row["text"] for row in kept], truncation=True, max_length=LENGTH)["input_ids"]
    model = Classifier(folder).train(way == "usual")
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-2, weight_decay=0.01, fused=True)

    def step(chosen: np.ndarray) -> torch.Tensor:
        batch = tokenizer.pad({"input_ids": [ids[row] for row in chosen]}, return_tensors="pt")
        predictions = model({name: batch[name] for name in ("input_ids", "attention_mask")})
        loss = torch.nn.functional.cross_entropy(predictions, labels[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    random = np.random.default_rng(0)
    order = np.argsort([len(row) for row in ids], kind="stable") if way == "best" else random.permutation(len(ids))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    for chosen in batches[:: len(batches) // 10]:
        step(chosen)
    epochs = []
    for _ in range(3):
        started = time.perf_counter()
        for place in random.permutation(len(batches)):
            loss = step(batches[place])
        assert torch.isfinite(loss)
        epochs.append(time.perf_counter() - started)
    seconds = config["train.epochs"] * statistics.median(epochs)
    found = {"metrics": {"seconds": seconds}, "seconds": seconds, "peak_memory_bytes": peak()}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
