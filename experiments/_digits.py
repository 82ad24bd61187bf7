"""Transfer from digits 0 to 4 to digits 5 to 9 with few labels, compared with random weights."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _bands import plot_bands

from tlx.data.image_examples import ImageExamples
from tlx.data.images import fingerprint
from tlx.data.sources import Table, load
from tlx.data.splits import split_by_group, subsample_per_class
from tlx.evaluation.predict import make_forward
from tlx.methods.finetune import FineTune
from tlx.modalities.image import Images
from tlx.models.heads import Head
from tlx.models.model import build_model, config_of, dummy_inputs
from tlx.optim.groups import Group, make_optimizer
from tlx.params.paths import flatten
from tlx.pretrained.folder import read_config
from tlx.pretrained.image_processor import ImageProcessor
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show
from tlx.training.on_device import rows_of_steps, train_on_device
from tlx.training.state import assign_players

COUNTS = (1, 2, 5, 10, 20, 50)  # labels of each class
DRAWS = 5
RATES = (3e-4, 1e-3, 3e-3)  # compared on validation, for each arm with CHOSEN_AT labels per class
CHOSEN_AT, STEPS, BATCH = 5, 60, 32
PRETRAINING = 400  # steps
ARMS = ("pretrained on 0–4", "random weights")


@dataclasses.dataclass(frozen=True)
class Task:
    """Classification of five digits; functions are jitted once for all runs.

    Attributes:
      init: `key -> params`.
      train: `(params, rows (steps, batch), key, rate) -> params`; a row of -1 is padding.
      logits: `(params, rows) -> logits`.
      labels: int32 (rows of the set,), 0 to 4.
    """

    init: Callable[[jax.Array], Any]
    train: Callable[..., Any]
    logits: Callable[..., Any]
    labels: np.ndarray


def run(checkpoint: Path, workdir: Path) -> dict[str, Any]:
    """Writes the table, its numbers and the picture under `workdir`, and returns the numbers.

    Args:
      checkpoint: a folder with the config of the network and its image processor; weights are not read.
      workdir: the output folder.
    """
    started = time.perf_counter()
    table = load("builtin:digits")
    digits = np.asarray(table.columns["label"])
    task = make_task(checkpoint, table)
    low, high = np.flatnonzero(digits < 5), np.flatnonzero(digits >= 5)
    parts = split_by_group(
        [fingerprint(table.columns["image"][row]) for row in high], {"test": 0.25, "validation": 0.15}, 0
    )
    rows = {part: high[chosen] for part, chosen in parts.items()}
    first = task.train(task.init(jax.random.key(0)), rows_of_steps(low, PRETRAINING, BATCH, 0), jax.random.key(0), 1e-3)

    def score(arm: str, count: int, draw: int, rate: float, part: str) -> float:
        chosen = rows["train"][subsample_per_class(digits[rows["train"]].tolist(), count, draw)]
        params = task.init(jax.random.key(1 + draw))  # the head is new in both arms
        if arm == ARMS[0]:
            params = {**params, "backbone": first["backbone"]}
        params = task.train(params, rows_of_steps(chosen, STEPS, BATCH, draw), jax.random.key(draw), rate)
        predictions = np.asarray(task.logits(params, rows[part]))
        return float((predictions.argmax(-1) == task.labels[rows[part]]).mean())

    def validated(arm: str, rate: float) -> float:
        return float(np.mean([score(arm, CHOSEN_AT, DRAWS + draw, rate, "validation") for draw in range(3)]))

    rates = {arm: max(RATES, key=functools.partial(validated, arm)) for arm in ARMS}
    found = {
        arm: {count: [score(arm, count, draw, rates[arm], "test") for draw in range(DRAWS)] for count in COUNTS}
        for arm in ARMS
    }
    seconds = round(time.perf_counter() - started, 1)
    return report(found, rates, len(rows["test"]), seconds, workdir)


def make_task(checkpoint: Path, table: Table) -> Task:
    """Makes the task: AdamW trains all parameters with a linear schedule to zero; the data set is on the device."""
    heads = {"default": Head("classification", 5)}
    inputs = Images(ImageProcessor(checkpoint))
    model = build_model(config_of(checkpoint, read_config(checkpoint), heads), heads)
    examples = ImageExamples(table.columns["image"], inputs.processor, threads=1)
    pixels = jnp.asarray(examples.take(np.arange(len(table)))["pixel_values"])
    labels = np.asarray(table.columns["label"], np.int32) % 5
    init = jax.jit(lambda key: model.init(key, **dummy_inputs(model))["params"])
    shapes = jax.eval_shape(init, jax.random.key(0))
    fields = {"pixel_values": pixels, "label": jnp.asarray(labels)}
    method = FineTune(model, {"default": "label"}, inputs.prepare)
    player_of = assign_players(shapes, dict.fromkeys(flatten(shapes), "default"), method.players)

    @jax.jit
    def train(params: Any, rows: jax.Array, key: jax.Array, rate: jax.Array) -> Any:
        groups = {"default": Group(weight_decay=0.01)}
        falling = optax.linear_schedule(1.0, 0.0, len(rows))
        adamw = make_optimizer(shapes, (), groups, learning_rate=lambda step: rate * falling(step))
        return train_on_device(method, adamw, player_of, params, fields, rows, key)

    forward = make_forward(model, inputs.prepare)
    return Task(
        init, train, lambda params, rows: forward(params, {}, {"pixel_values": pixels[rows]})["default"], labels
    )


def report(found: Any, rates: dict[str, float], tested: int, seconds: float, workdir: Path) -> dict[str, Any]:
    """Prints and writes the results."""
    rows = [
        (str(count), *(f"{np.mean(found[arm][count]):.3f} ± {half_interval(found[arm][count]):.3f}" for arm in ARMS))
        for count in COUNTS
    ]
    header = ("labels a class", *ARMS)
    show("accuracy on 5–9", header, rows)
    summary = (
        f"{tested} test images; mean of {DRAWS} draws of labels, head and order ± half its 95 % interval (t); learning "
        f"rates {', '.join(f'{rates[arm]:g} ({arm})' for arm in ARMS)}, of {len(RATES)} tried for each on validation; "
        f"{seconds:.0f} s in all."
    )
    print(summary)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "table.md").write_text(f"{markdown(header, rows)}\n{summary}\n", encoding="utf-8")
    plot_bands(found, "labels of each class", "accuracy on 5–9", workdir / "digits.png")
    numbers = {"accuracy": found, "rates": rates, "tested": tested, "seconds": seconds}
    write_json(workdir / "digits.json", numbers)
    return numbers


def half_interval(values: list[float]) -> float:
    """Half the width of the mean's 95 % interval (Student's t)."""
    from scipy import stats

    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
