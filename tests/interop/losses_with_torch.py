"""Run by another Python, one that has torch: trains exported folders on given batches as the Trainer would.

    python losses_with_torch.py jobs.json

A job names the `folder`, the `auto` class that opens it, an `.npz` of `batches` (`0/input_ids`, …, `0/labels`, -100
where a token has none), the `settings` of the optimizer (`learning_rates`, one a step; `betas`, `eps`, `weight_decay`,
`max_grad_norm`) and the `.npy` where the `losses` go. The exported config says that nothing is dropped.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
import transformers


def load(job: dict[str, Any]) -> torch.nn.Module:
    """In training mode, with nothing to drop."""
    model = getattr(transformers, job["auto"]).from_pretrained(job["folder"], attn_implementation="eager").train()
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates and not any(rates), rates
    return model


def optimizer(model: torch.nn.Module, settings: dict[str, Any]) -> torch.optim.AdamW:
    """AdamW over the Trainer's two groups, by the Trainer's own rule of what is decayed."""
    decayed = set(transformers.Trainer.get_decay_parameter_names(None, model))
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name in decayed].append(parameter)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": settings["weight_decay"]},
         {"params": groups[False], "weight_decay": 0.0}],
        lr=0.0, betas=tuple(settings["betas"]), eps=settings["eps"],
    )  # fmt: skip


def run(job: dict[str, Any]) -> np.ndarray:
    """The loss before each step."""
    model, settings = load(job), job["settings"]
    adamw, losses = optimizer(model, settings), []
    with np.load(job["batches"]) as arrays:
        for step, rate in enumerate(settings["learning_rates"]):
            prefix = f"{step}/"
            batch = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
            tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
            loss = model(**{name: t if t.is_floating_point() else t.long() for name, t in tensors.items()}).loss
            adamw.zero_grad()
            loss.backward()
            if settings["max_grad_norm"]:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
            for group in adamw.param_groups:
                group["lr"] = rate
            adamw.step()
            losses.append(loss.item())
    return np.array(losses)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        for job in json.load(file):
            np.save(job["losses"], run(job))
