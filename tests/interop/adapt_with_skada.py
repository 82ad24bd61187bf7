"""Run by another Python, one with scikit-adaptation: the losses of benchmarks/adaptation/theirs.py from given weights.

    python adapt_with_skada.py jobs.json

A job names the `pair`, the `seed`, the `fields`, an `.npz` of `weights` by the names of torch, and the `.npy` where the
`losses` go. Nothing is dropped. TLX_DATA names the folder of the data.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "adaptation"))
from theirs import domains, make, read, train


def run(job: dict[str, Any]) -> np.ndarray:
    """The loss before each step."""
    net = make(job["fields"])
    with np.load(job["weights"]) as weights:
        net.module_.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights})
    for module in net.module_.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    losses, step = [], net.train_step

    def recorded(batch: Any) -> Any:
        found = step(batch)
        losses.append(float(found["loss"]))
        return found

    net.train_step = recorded
    source, target = domains(job["pair"], job["seed"], job["fields"])
    train(net, job["seed"], source, target, job["fields"], [read("mnist", "dev")])
    return np.array(losses)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        np.save(job["losses"], run(job))
