"""Loads once, in its own process: prints `ready`, waits for a line, loads, and prints the seconds.

python load.py tlx|torch|flax FOLDER
"""

import os
import sys
import time
from pathlib import Path


def prepared(what: str):
    """A function that loads a folder; libraries are imported and devices initialized."""
    if what == "tlx":
        import jax
        import jax.numpy as jnp

        from tlx.pretrained.load import from_pretrained

        jnp.zeros(()).block_until_ready()
        return lambda folder: jax.block_until_ready(from_pretrained(folder)[1])
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if what == "torch":
        import torch

        torch.zeros(())
        return lambda folder: transformers.BertModel.from_pretrained(folder)
    import jax.numpy as jnp

    jnp.zeros(()).block_until_ready()
    return lambda folder: transformers.FlaxBertModel.from_pretrained(folder)


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    load = prepared(what)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    kept = load(folder)
    seconds = time.perf_counter() - started
    (folder.parent / f"{os.getpid()}.done").touch()
    print(seconds, flush=True)
    sys.stdin.readline()
