"""A BERT small enough to train in a second, and a task that it can learn: which of two kinds of words prevails."""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tlx.models.bert import BertConfig
from tlx.models.model import build_model
from tlx.pretrained.load import random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune
from tlx.recipes.trained import load_run

GOOD = ("fine", "great", "lovely", "sweet", "warm")
BAD = ("awful", "bitter", "cold", "dull", "grim")
NEUTRAL = ("a", "and", "film", "plot", "the", "was")
SMALL = BertConfig(
    vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=32, initializer_range=0.1,
)  # fmt: skip


@functools.cache
def checkpoint_files() -> dict[str, bytes]:
    """Config, random weights and a WordPiece vocabulary, made once in a process."""
    model = build_model(SMALL, {})
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "checkpoint", model, random_params(model, 0))
        files = {file.name: file.read_bytes() for file in Path(folder, "checkpoint").iterdir()}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL]
    return {**files, "vocab.txt": ("\n".join(words) + "\n").encode()}


def write_checkpoint(folder: Path) -> Path:
    """The files of `checkpoint_files` as a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in checkpoint_files().items():
        (folder / name).write_bytes(content)
    return folder


def write_reviews(file: Path, rows: int, seed: int = 0) -> Path:
    """A csv of texts with a label `good` or `bad` and a score, the share of good words among the telling ones."""
    random = np.random.default_rng(seed)
    lines = ["text,label,score"]
    for _ in range(rows):
        telling = [*random.choice(GOOD, random.integers(0, 4)), *random.choice(BAD, random.integers(0, 4))]
        telling = telling if len(telling) % 2 else [*telling, str(random.choice(GOOD + BAD))]
        good = sum(word in GOOD for word in telling)
        words = [*telling, *random.choice(NEUTRAL, random.integers(1, 6))]
        random.shuffle(words)
        lines.append(f"{' '.join(words)},{'good' if good > len(telling) / 2 else 'bad'},{good / len(telling):.4f}")
    file.write_text("\n".join(lines) + "\n")
    return file


def config(checkpoint: Path, data: Path) -> ConfigDict:
    """A run of a few seconds."""
    made = defaults.finetune()
    made.model.checkpoint = str(checkpoint)
    made.data.train = f"csv:{data}"
    made.data.test_fraction = 0.2
    made.data.max_length = 16
    made.optimizer.learning_rate = 3e-3
    made.optimizer.clip = 0.5
    made.train.epochs = 10.0
    made.train.batch_size = 20
    made.parallel.data = 1
    return made


class Stopped(Exception):
    """In place of a kill."""


def run_and_stop(job: Any, steps: int) -> None:
    """A run that ends with an exception after so many training steps."""
    taken = 0

    def stop(state: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise Stopped

    before_each_step(job, stop)
    with pytest.raises(Stopped):
        job.run(quiet=True)


def check_stopped_and_resumed(config: Callable[[], ConfigDict], folder: Path, steps: int) -> Any:
    """A run that is stopped after so many steps and goes on has the bits and metrics of an undisturbed one.

    Returns the state of the method before the last step, which is the same too.
    """

    def run(name: str) -> Any:
        job, seen = finetune.build(config(), folder / name), {}
        before_each_step(job, lambda state: seen.update(last=jax.device_get(state.method_state)))
        job.run(quiet=True)
        return seen["last"]

    whole = run("whole")
    run_and_stop(finetune.build(config(), folder / "parts"), steps)
    jax.tree.map(np.testing.assert_array_equal, whole, run("parts"))
    one, other = (load_run(folder / name) for name in ("whole", "parts"))
    assert one.step == other.step
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    summaries = [json.loads((folder / name / "summary.json").read_text()) for name in ("whole", "parts")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    return whole


def before_each_step(job: Any, do: Callable[[Any], None]) -> None:
    """`do(state)` before every training step of a job."""

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, batch: (do(state), step(state, batch))[1]

    job.phases = tuple(dataclasses.replace(phase, step=watched(phase.step)) for phase in job.phases)
