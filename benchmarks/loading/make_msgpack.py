"""The same weights as `flax_model.msgpack`, which transformers reads up to 4.57; written by tlx.

python make_msgpack.py WORKDIR
"""

import sys
from pathlib import Path

from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

if __name__ == "__main__":
    model, params = from_pretrained(Path(sys.argv[1]) / "safetensors")
    write_folder(Path(sys.argv[1]) / "msgpack", model, params, format="msgpack", max_shard_bytes=10**10)
