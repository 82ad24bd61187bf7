"""`tlx predict RUN TEXT…`: what a trained run says of some texts."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.cli.launch import quiet_logs, use_compilation_cache
from tlx.models.heads import Head


def main(run: str, texts: Sequence[str]) -> None:
    """Prints one line a text."""
    quiet_logs()
    use_compilation_cache()
    from tlx.recipes.answers import answer
    from tlx.recipes.run_directory import load_run

    trained = load_run(Path(run))
    head = dict(trained.model.heads_by_name)["default"]
    in_lab = trained.config["data"]["label"] == "lab"
    width = max(len(text) for text in texts)
    for text, values in zip(texts, answer(trained, texts), strict=True):
        print(f"{text:{width}}  {swatch(values) if in_lab else ''}{describe(head, values)}")


def describe(head: Head, values: np.ndarray) -> str:
    """An answer in words: the class and its probability, or the numbers."""
    if head.kind == "regression":
        return "  ".join(f"{value:.4g}" for value in values)
    likely = int(values.argmax())
    probability = 1 / sum(math.exp(value - values[likely]) for value in values)
    return f"{head.labels[likely] if head.labels else likely}  {probability:.1%}"


def swatch(lab: np.ndarray) -> str:
    """A colour's hex code, and before it the colour itself where the terminal shows true colours."""
    from tlx.data.colors import lab_to_srgb

    red, green, blue = (round(float(255 * value)) for value in lab_to_srgb(np.asarray(lab, np.float64)))
    block = f"\x1b[48;2;{red};{green};{blue}m      \x1b[0m " if sys.stdout.isatty() else ""
    return f"{block}#{red:02x}{green:02x}{blue:02x}  Lab "
