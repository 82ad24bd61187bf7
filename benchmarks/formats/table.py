"""Errors of tlx for every family, variant and format: files written by other software, read and run in float64.

    python benchmarks/formats/table.py --workdir=runs/formats

The reference checkpoints under third_party/ are written in every format by torch and transformers 5
(TLX_INTEROP_PYTHON, or .venv-interop) and by the Flax classes of transformers 4.57.6 (TLX_FLAX_PYTHON, or .venv-flax).
`make .venv-interop/.ready .venv-flax/.ready` creates both environments. An error is the largest difference of a hidden
state, attention, pooled output or logit from that of transformers, relative to its largest entry.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import ROOT, arguments, publish, run

from tlx.errors import TlxError, one_sentence
from tlx.pretrained.load import from_pretrained

HERE = Path(__file__).parent
FAMILIES = ("bert", "roberta", "electra", "distilbert", "vit", "deit")
# Format -> the software that writes it
FORMATS = {
    "safetensors": "torch", "in parts": "torch", "float16": "torch", "bfloat16": "torch",
    "bin": "torch", "bin, in parts": "torch", "bin, before 1.6": "torch",
    "msgpack": "flax", "msgpack, in parts": "flax",
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]


def main() -> None:
    """Writes the files, reads them, prints and writes the table."""
    workdir = arguments(__doc__, "runs/formats").parse_args().workdir
    for side in ("torch", "flax"):
        if not (workdir / f"{side}.done").exists():
            run(side, HERE / f"with_{side}.py", ROOT / "third_party", workdir)
            (workdir / f"{side}.done").touch()
    jax.config.update("jax_enable_x64", True)
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for folder in variants():
        family, name = folder.parent.name, folder.name
        row = worst.setdefault((family, "20 activations" if name.startswith("act_") else name), {})
        for form in FORMATS:
            made = workdir / family / name / form
            if made.is_dir():
                row[form] = max(row.get(form, 0.0), error(made, folder))
        print(family, name, {form: f"{value:.0e}" for form, value in row.items()}, flush=True)
    rows = [(*key, *(f"{row[form]:.0e}" if form in row else "–" for form in FORMATS)) for key, row in worst.items()]
    publish(workdir, "errors", ("family", "variant", *FORMATS), rows)


def variants() -> list[Path]:
    """The reference checkpoints whose outputs do not depend on dropout."""
    found = []
    for family in FAMILIES:
        for folder in sorted((ROOT / "third_party" / family).iterdir()):
            if (folder / "reference.npz").is_file():
                with np.load(folder / "reference.npz") as arrays:
                    if not arrays["train"]:
                        found.append(folder)
    return found


def error(made: Path, reference: Path) -> float:
    """The error of tlx's outputs from one folder. A file in half precision has its own reference (`answers.npz`)."""
    with np.load(reference / "reference.npz") as arrays:
        inputs = {k.removeprefix("input/"): as_input(v) for k, v in arrays.items() if "input/" in k}
        expected = {k: v for k, v in arrays.items() if k.startswith("output/") and k != "output/loss"}
    if (made / "answers.npz").is_file():
        with np.load(made / "answers.npz") as arrays:
            expected = dict(arrays)
    changes = {"add_pooling_layer": False} if reference.name == "base_no_pooler" else {}
    model, params = from_pretrained(made, param_dtype=jnp.float64, **changes)
    found = predictions(model, params, inputs)
    if missing := expected.keys() - found.keys():
        raise TlxError(f"{made}: tlx gives no {missing}.")
    return max(float(np.abs(found[k] - right).max() / np.abs(right).max()) for k, right in expected.items())


def as_input(array: np.ndarray) -> Any:
    """An input as JAX array (token ids or pixels) or bool."""
    return bool(array) if array.dtype == bool else jnp.asarray(array, None if array.dtype.kind == "f" else jnp.int32)


def predictions(model: Any, params: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of tlx under the names of the reference."""
    output = model.apply({"params": params}, **inputs, output_hidden_states=True, output_attentions=True)
    found = {"output/last_hidden_state": output.last_hidden_state}
    found |= {f"output/hidden_states/{i}": x for i, x in enumerate(output.hidden_states)}
    found |= {f"output/attentions/{i}": x for i, x in enumerate(output.attentions)}
    found |= {} if output.pooler_output is None else {"output/pooler_output": output.pooler_output}
    found |= {"output/logits": output.logits["default"]} if output.logits else {}
    return {name: np.asarray(x) for name, x in found.items()}


if __name__ == "__main__":
    with one_sentence():
        main()
