"""Writes each reference checkpoint as `flax_model.msgpack`; run by the Python with transformers 4.57.6 and flax.

python with_flax.py third_party WORKDIR
"""

import json
import shutil
import sys
from pathlib import Path

import transformers
from transformers.modeling_flax_utils import ACT2FN

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import write_references


def write_all(source: Path, out: Path) -> None:
    """Writes one file and one sharded file, if there is a Flax class with this activation."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    flax_class = getattr(transformers, f"Flax{config['architectures'][0]}", None)
    oblong = isinstance(
        config.get("image_size"), list
    )  # Flax's ViT needs square images and a pooler of the hidden size
    pooled = config.get("pooler_output_size", config.get("hidden_size")) != config.get("hidden_size")
    if oblong or pooled or flax_class is None or config.get("hidden_act", "gelu") not in ACT2FN:
        return
    options = {"add_pooling_layer": False} if source.name == "base_no_pooler" else {}
    model = flax_class.from_pretrained(source, from_pt=True, **options)
    for form, size in (("msgpack", "10GB"), ("msgpack, in parts", "10KB")):
        shutil.rmtree(out / form, ignore_errors=True)
        model.save_pretrained(out / form, max_shard_size=size)
        assert list((out / form).glob("*.msgpack"))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    write_references(("bert", "roberta", "electra", "distilbert", "vit"), write_all)
