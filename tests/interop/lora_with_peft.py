"""Run by another Python, one that has torch and peft: steps of LoRA, from tlx's export and tlx's adapter.

python lora_with_peft.py WORKDIR   reads start/, adapter.npz, batches.npz and settings.json there, writes theirs.npz
"""

import json
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers


def main(workdir: Path) -> None:
    """Losses of the steps, and logits before, after, and after merging."""
    transformers.logging.set_verbosity_error()
    settings = json.loads((workdir / "settings.json").read_text(encoding="utf-8"))
    base = transformers.AutoModelForSequenceClassification.from_pretrained(workdir / "start", dtype=torch.float32)
    config = peft.LoraConfig(
        r=settings["rank"], lora_alpha=settings["alpha"], use_rslora=settings["rank_stabilised"],
        target_modules=["query", "value"], modules_to_save=["classifier"],
    )  # fmt: skip
    model = peft.get_peft_model(base, config)
    with np.load(workdir / "adapter.npz") as drawn, torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.copy_(torch.from_numpy(drawn[module(name)].T.copy()))
    model.eval()  # no dropout, in training neither
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=settings["rate"], weight_decay=0.0, eps=1e-8)
    with np.load(workdir / "batches.npz") as saved:
        batches = {name: torch.from_numpy(saved[name]).long() for name in saved}
    losses = []
    first = {name: rows[0] for name, rows in batches.items() if name != "labels"}
    for index in range(len(batches["labels"])):
        loss = model(**{name: rows[index] for name, rows in batches.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    with torch.no_grad():
        after = model(**first).logits.numpy()
        merged = model.merge_and_unload()(**first).logits.numpy()
    trainable = sum(p.numel() for p in learning)
    np.savez(workdir / "theirs.npz", losses=losses, after=after, merged=merged, trainable=trainable)


def module(name: str) -> str:
    """`base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight` to tlx's module."""
    return name.split(".lora_A.")[0].removeprefix("base_model.model.bert.").replace(".", "/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
