"""The side of tlx: fine-tuning on images that are stored on the device, and features of the same checkpoint."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.augment.settings import Augmentation
from tlx.data.image_examples import ImageExamples
from tlx.evaluation.predict import make_forward
from tlx.methods.finetune import FineTune
from tlx.modalities.image import Images
from tlx.models.heads import Head
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.optim.schedules import make_schedule
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.load import from_pretrained
from tlx.training.on_device import rows_of_steps, train_on_device
from tlx.training.state import assign_players

BATCH = 32
Probe = tuple[np.ndarray, np.ndarray]  # kernel (hidden, classes), bias (classes,)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Linear probing, then fine-tuning (Kumar et al. 2022): the head starts as the logistic regression.

    AdamW with a linear schedule after a warm-up of a tenth of the run, gradients clipped to norm 1; images are flipped
    and mixed (mixup).

    Attributes:
      learning_rate: the peak.
      steps: with batches of 32, or of all examples if there are fewer.
      flip: probability.
      mixup: parameter of the beta distribution.
      weight_decay: of AdamW.
    """

    learning_rate: float
    steps: int
    flip: float = dataclasses.field(default=0.5, init=False)
    mixup: float = dataclasses.field(default=1.0, init=False)
    weight_decay: float = dataclasses.field(default=0.01, init=False)

    def rows(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """int64 (steps, batch): the rows of each batch, -1 for padding of an epoch's last batch."""
        return rows_of_steps(rows, self.steps, min(BATCH, len(rows)), seed)


class Ours:
    """One task.

    Args:
      checkpoint: a folder.
      images: uint8 (n, height, width, 3).
      labels: integers (n,), 0 to classes - 1.
      classes: number of classes.
    """

    def __init__(self, checkpoint: Path, images: np.ndarray, labels: np.ndarray, classes: int):
        self.classes = classes
        self.model, self.params = from_pretrained(checkpoint, classes)
        self.processor = ImageProcessor(checkpoint)
        self.pixels = ImageExamples(images, self.processor).take(np.arange(len(images)))["pixel_values"]
        self.fields = {"pixel_values": jnp.asarray(self.pixels), "label": jnp.asarray(labels, jnp.int32)}
        self.forward = make_forward(self.model, Images(self.processor).prepare)

    def features(self) -> np.ndarray:
        """The class token of every image after the last layer norm, (n, hidden)."""
        prepare = Images(self.processor).prepare

        @jax.jit
        def cls(params: Any, pixels: jax.Array) -> jax.Array:
            output: Any = self.model.apply({"params": params}, **prepare({"pixel_values": pixels}, None)[0])
            return output.last_hidden_state[:, 0]

        pixels = self.fields["pixel_values"]
        return np.concatenate([np.asarray(cls(self.params, pixels[i : i + 500])) for i in range(0, len(pixels), 500)])

    def predictions(self, recipe: Recipe, probe: Probe, rows: np.ndarray, seed: int, asked: np.ndarray) -> np.ndarray:
        """Logits (asked, classes) after training on `rows`; the seed decides order and augmentation."""
        head = {"kernel": jnp.asarray(probe[0], jnp.float32), "bias": jnp.asarray(probe[1], jnp.float32)}
        params = {**self.params, "heads": {"default": {"output": head}}}
        chosen = recipe.rows(rows, seed)
        params = self._train(params, chosen, jax.random.key(seed), recipe.learning_rate)
        return np.asarray(self.forward(params, {}, {"pixel_values": self.fields["pixel_values"][asked]})["default"])

    @functools.cached_property
    def _train(self) -> Any:
        inputs = Images(self.processor, Augmentation(flip=Recipe.flip, mixup=Recipe.mixup))
        method = FineTune(self.model, {"default": "label"}, inputs.training(Head("classification", self.classes)))
        groups: Mapping[str, Group] = {"default": Group(weight_decay=Recipe.weight_decay)}

        @jax.jit
        def train(params: Any, rows: jax.Array, key: jax.Array, rate: jax.Array) -> Any:
            schedule = make_schedule("linear", 1.0, len(rows), len(rows) // 10)
            adamw = make_optimizer(params, (), groups, learning_rate=lambda step: rate, schedule=schedule)
            player_of = assign_players(params, assign_groups(params, (), groups), method.players)
            return train_on_device(method, adamw, player_of, params, self.fields, rows, key)

        return train
