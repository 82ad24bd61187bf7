"""Pictures of what a trained run answers to images, and of what it looks at in them."""

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
from tlx.recipes.run_directory import Trained
from tlx.reporting.sheet import overlaid, plot_sheet
from tlx.runs.predictions import rows_of

THUMBNAIL = 400  # pixels of the longer edge on a sheet, about twice what is drawn


def least_certain(images: Sequence[Any], rows: Sequence[dict[str, Any]], file: Path, most: int = 24) -> Path:
    """Draws the images whose answer is least probable, the least first.

    Raises:
      TlxError: the answers are no classes, so that none is more probable than another.
    """
    if not all("score" in row for row in rows):
        raise TlxError("only answers that are one of several classes have a probability to choose a sheet by.")
    order = sorted(range(len(rows)), key=lambda i: rows[i]["score"])[:most]
    lines = [f"{rows[i]['predicted']} {rows[i]['score']:.0%}" for i in order]
    title = f"the {len(order)} of {len(rows)} answered with the least certainty"
    return plot_sheet([_thumbnail(images[i]) for i in order], lines, title, file)


def _thumbnail(image: Any) -> np.ndarray:
    """As it is where it is small: a sheet of photographs in full would be gigabytes."""
    with open_rgb(image) as opened:
        opened.thumbnail((THUMBNAIL, THUMBNAIL))
        return np.asarray(opened)


def draw_attention(trained: Trained, images: Sequence[Any], file: Path) -> Path:
    """Draws each image as it is and as it is looked at: attention rollout from the class token."""
    inputs, config = trained.inputs, trained.model.backbone.config
    if config.modality != "image":
        raise TlxError(f"this run reads {inputs.plural}, not images.")
    examples = inputs.encode_inputs(images)
    pixels = examples.take(np.arange(len(examples)), 1)["pixel_values"]
    given, _ = inputs.prepare({"pixel_values": jnp.asarray(pixels)}, None)
    output, _ = forward(trained.model, trained.params, trained.model_state, given, output_attentions=True)
    looked = rollout(jax.device_get(output.attentions))[:, 0, config.special_tokens :].reshape(-1, *config.grid)
    rows = rows_of(trained, images)
    pictures, lines = [], []
    for image, weight, row in zip(pixels, looked, rows, strict=True):
        pictures += [image, overlaid(image, weight)]
        lines += ["", f"{row['predicted']} {row['score']:.0%}" if "score" in row else str(row["predicted"])]
    return plot_sheet(pictures, lines, "attention rollout", file)
