"""Run by another Python, one that has torch: opens exported folders with transformers and writes down what it found.

    python open_with_torch.py jobs.json

A job names the `folder`, the `auto` class that opens it and its `options`, an `.npz` of `inputs`, where the
`predictions` go, and perhaps an `original` folder whose parameters should be the same, bit by bit. Prints one JSON
list.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
import transformers


def as_input(array: np.ndarray) -> Any:
    """Numbers of tokens, pixels, or a flag."""
    if array.dtype == bool:
        return bool(array)
    return torch.from_numpy(array).double() if array.dtype.kind == "f" else torch.from_numpy(array).long()


def run(job: dict[str, Any]) -> dict[str, Any]:
    auto, options = getattr(transformers, job["auto"]), job["options"]
    model, told = auto.from_pretrained(job["folder"], output_loading_info=True, **options)
    found: dict[str, Any] = {kind: sorted(map(str, names)) for kind, names in told.items() if names}
    found["class"], found["labels"] = type(model).__name__, list(model.config.id2label.values())
    found["dtypes"] = sorted({str(parameter.dtype) for parameter in model.parameters()})
    if job["original"]:
        original = auto.from_pretrained(job["original"], **options).state_dict()
        found["different"] = [
            name for name, tensor in model.state_dict().items() if not torch.equal(tensor, original.pop(name))
        ] + list(original)
    with np.load(job["inputs"]) as arrays:
        inputs = {name: as_input(array) for name, array in arrays.items()}
    with torch.no_grad():
        output = model.double().eval()(**inputs)
    if "start_logits" in output:
        predictions = torch.stack([output.start_logits, output.end_logits], -1)
    else:
        predictions = output.logits if "logits" in output else output.last_hidden_state
    np.save(job["predictions"], predictions.numpy())
    if job["tokenize"]:
        found["ids"] = transformers.AutoTokenizer.from_pretrained(job["folder"])(job["tokenize"])["input_ids"]
    return found


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        print(json.dumps([run(job) for job in json.load(file)]))
