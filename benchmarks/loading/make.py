"""Writes a BERT of BERT-large's size with random weights in torch's formats; run by the Python with torch.

python make.py WORKDIR LAYERS
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers

if __name__ == "__main__":
    transformers.logging.disable_progress_bar()
    workdir, layers = Path(sys.argv[1]), int(sys.argv[2])
    config = transformers.BertConfig(
        hidden_size=1024, num_hidden_layers=layers, num_attention_heads=16, intermediate_size=4096
    )
    model = transformers.BertModel(config)
    tensors = model.state_dict()
    model.save_pretrained(workdir / "safetensors", max_shard_size="10GB")
    model.save_pretrained(workdir / "safetensors, in parts", max_shard_size="300MB")
    for form, zipped in (("bin", True), ("bin, before 1.6", False)):
        (workdir / form).mkdir(parents=True, exist_ok=True)
        torch.save(tensors, workdir / form / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        shutil.copyfile(workdir / "safetensors" / "config.json", workdir / form / "config.json")
    size = sum(tensor.nbytes for tensor in tensors.values())
    (workdir / "size.json").write_text(json.dumps({"bytes": size}))
