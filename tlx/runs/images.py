"""Pictures of a trained run's predictions for images, and of its attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.data.images import open_rgb
from tlx.errors import TlxError
from tlx.evaluation.rollout import rollout
from tlx.models.forward import forward
from tlx.recipes.trained import Trained
from tlx.reporting.sheet import overlaid, plot_sheet
from tlx.runs.predictions import rows_of

THUMBNAIL = 400  # longer edge of an image on a sheet, in pixels; about twice the size at which it is drawn


def least_certain(images: Sequence[Any], rows: Sequence[dict[str, Any]], file: Path, most: int = 24) -> Path:
    """Draws the images with the least probable predictions, the least probable first.

    Args:
      images: paths or arrays.
      rows: their predictions, as from `tlx.runs.predictions.rows_of`.
      file: the picture to write.
      most: largest number of images to draw.

    Returns:
      The written file.

    Raises:
      TlxError: if the run does not predict classes, so that predictions have no probability.
    """
    if not all("score" in row for row in rows):
        raise TlxError("a sheet needs predictions with a probability, which only classification has.")
    order = sorted(range(len(rows)), key=lambda i: rows[i]["score"])[:most]
    lines = [f"{rows[i]['predicted']} {rows[i]['score']:.0%}" for i in order]
    title = f"the {len(order)} least certain predictions of {len(rows)}"
    return plot_sheet([_thumbnail(images[i]) for i in order], lines, title, file)


def _thumbnail(image: Any) -> np.ndarray:
    """The image, reduced if it is larger than THUMBNAIL: many full photographs would need gigabytes of memory."""
    with open_rgb(image) as opened:
        opened.thumbnail((THUMBNAIL, THUMBNAIL))
        return np.asarray(opened)


def draw_attention(trained: Trained, images: Sequence[Any], file: Path) -> Path:
    """Draws each image and its attention rollout from the class token.

    Args:
      trained: a run of an image model.
      images: paths or arrays.
      file: the picture to write.

    Returns:
      The written file.

    Raises:
      TlxError: if the run's model does not read images, or the run has several tasks.
    """
    _ = trained.head  # of several tasks, one has to be named
    inputs, config = trained.inputs, trained.model.backbone.config
    if config.modality != "image":
        raise TlxError(f"this run reads {inputs.plural}, not images.")
    examples = inputs.encode_inputs(images)
    pixels = examples.take(np.arange(len(examples)), 1)["pixel_values"]
    model_inputs, _ = inputs.prepare({"pixel_values": jnp.asarray(pixels)}, None)
    output, _ = forward(trained.model, trained.params, trained.model_state, model_inputs, output_attentions=True)
    weights = rollout(jax.device_get(output.attentions))[:, 0, config.special_tokens :].reshape(-1, *config.grid)
    rows = rows_of(trained, images)
    pictures, lines = [], []
    for image, weight, row in zip(pixels, weights, rows, strict=True):
        pictures += [image, overlaid(image, weight)]
        lines += ["", f"{row['predicted']} {row['score']:.0%}" if "score" in row else str(row["predicted"])]
    return plot_sheet(pictures, lines, "attention rollout", file)
