"""Run by another Python, one that has transformers 4.57.6 and flax: opens exported folders with its Flax classes.

    python open_with_flax.py jobs.json

A job names the `folder`, an `.npz` of `inputs` and where the `predictions` go. Prints one JSON list of what was
missing or unexpected.
"""

import json
import logging
import sys

import numpy as np
import transformers


class Told(logging.Handler):
    """What the library says of a checkpoint's keys, which it only logs."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        text = record.getMessage()
        if "not used when initializing" in text or "newly initialized" in text or "mismatch" in text:
            self.said.append(text[:500])


def run(job):
    config = transformers.AutoConfig.from_pretrained(job["folder"])
    told = Told()
    logger = logging.getLogger("transformers.modeling_flax_utils")
    logger.addHandler(told)
    model = getattr(transformers, f"Flax{config.architectures[0]}").from_pretrained(job["folder"])
    logger.removeHandler(told)
    with np.load(job["inputs"]) as arrays:
        output = model(**{name: x if x.dtype.kind == "f" else x.astype(np.int32) for name, x in arrays.items()})
    if "start_logits" in output:
        predictions = np.stack([output.start_logits, output.end_logits], -1)
    else:
        predictions = output.logits if "logits" in output else output.last_hidden_state
    np.save(job["predictions"], np.asarray(predictions))
    return {"class": type(model).__name__, "told": told.said}


if __name__ == "__main__":
    transformers.logging.set_verbosity_warning()
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        print(json.dumps([run(job) for job in json.load(file)]))
