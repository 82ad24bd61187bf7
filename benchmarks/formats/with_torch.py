"""Writes each reference checkpoint in every format of torch and transformers; run by the Python with torch.

python with_torch.py third_party WORKDIR
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import write_references


def write_all(source: Path, out: Path) -> None:
    """Writes one folder per format; in half precision with the outputs of the rounded model, computed in float64."""
    config = transformers.AutoConfig.from_pretrained(source)
    model_class = getattr(transformers, config.architectures[0])
    options = {"attn_implementation": "eager"} | (
        {"add_pooling_layer": False} if source.name == "base_no_pooler" else {}
    )
    model = model_class.from_pretrained(source, **options)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    model.save_pretrained(fresh(out / "safetensors"))
    model.save_pretrained(fresh(out / "in parts"), max_shard_size="10KB")
    torch.save(tensors, prepared(source, out / "bin") / "pytorch_model.bin")
    old = prepared(source, out / "bin, before 1.6") / "pytorch_model.bin"
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    in_parts(tensors, prepared(source, out / "bin, in parts"))
    for form, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        rounded = model_class.from_pretrained(source, dtype=dtype, **options)
        rounded.save_pretrained(fresh(out / form))
        np.savez(out / form / "answers.npz", **predictions(rounded.double().eval(), source))


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def prepared(source: Path, folder: Path) -> Path:
    """An empty folder with the config."""
    shutil.copyfile(source / "config.json", fresh(folder) / "config.json")
    return folder


def in_parts(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Writes three files with every third tensor each, and the index (transformers 5 no longer writes these)."""
    names, weight_map = list(tensors), {}
    for part in range(3):
        file = f"pytorch_model-{part + 1:05d}-of-00003.bin"
        torch.save({name: tensors[name] for name in names[part::3]}, folder / file)
        weight_map |= dict.fromkeys(names[part::3], file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


@torch.no_grad()
def predictions(model: torch.nn.Module, source: Path) -> dict[str, np.ndarray]:
    """The outputs under the names of the reference."""
    with np.load(source / "reference.npz") as arrays:
        given = {k.removeprefix("input/"): v for k, v in arrays.items() if k.startswith("input/")}
    inputs = {name: bool(v) if v.dtype == bool else torch.from_numpy(v) for name, v in given.items()}
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    found = {f"output/hidden_states/{i}": x for i, x in enumerate(output.hidden_states)}
    found |= {f"output/attentions/{i}": x for i, x in enumerate(output.attentions)}
    if "last_hidden_state" in output:
        found["output/last_hidden_state"] = output.last_hidden_state
    if "start_logits" in output:
        found["output/logits"] = torch.stack([output.start_logits, output.end_logits], -1)
    elif "logits" in output and "discriminator" not in source.name:
        found["output/logits"] = output.logits
    return {name: x.numpy() for name, x in found.items()}


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    write_references(("bert", "roberta", "electra", "distilbert", "vit", "deit"), write_all)
