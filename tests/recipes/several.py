"""Configs of several tasks on a tiny checkpoint; the fixture `task_files` (conftest.py) has their files."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tests.tiny import BAD, GOOD, NEUTRAL, write_checkpoint, write_reviews
from tlx.recipes import defaults


def write_task_files(folder: Path) -> None:
    """A checkpoint, reviews with two labels, and a set of its own with a third."""
    write_checkpoint(folder / "checkpoint")
    write_reviews(folder / "reviews.csv", 120)
    random = np.random.default_rng(5)
    lines = ["words,kind"]
    for _ in range(60):
        neutral = random.random() < 0.5
        words = random.choice(NEUTRAL if neutral else GOOD + BAD, 4)
        lines.append(f"{' '.join(words)},{'neutral' if neutral else 'telling'}")
    (folder / "kinds.csv").write_text("\n".join(lines) + "\n")


def config_of(files: Path, method: str = "equal", **fields: Any) -> ConfigDict:
    config = defaults.multitask()
    config.model.checkpoint = str(files / "checkpoint")
    config.data.train, config.data.max_length = f"csv:{files / 'reviews.csv'}", 16
    config.data.test_fraction, config.data.cache = 0.1, "off"
    config.tasks = {
        "tone": {"data": {"label": "label"}, "metric": "macro_f1"},
        "score": {"data": {"label": "score"}, "head": {"kind": "regression"}, "weight": 0.5},
        "kind": {"data": {"train": f"csv:{files / 'kinds.csv'}", "text": "words", "label": "kind"}},
    }
    config.method.name = method
    config.optimizer.learning_rate, config.train.batch_size, config.train.epochs = 2e-3, 16, 2.0
    config.update_from_flattened_dict(fields)
    return config


def with_words(files: Path, folder: Path, method: str = "equal", **fields: Any) -> ConfigDict:
    """Reviews with a label and a number, and sentences of tagged words."""
    (folder / "tags.conll").write_text(
        "".join(f"{GOOD[i % 3]} B-X\n{BAD[i % 2]} O\n{'a O' * (i % 2)}\n\n" for i in range(60))
    )
    config = config_of(files, method, **fields)
    config.tasks = {
        "tone": {"data": {"label": "label"}},
        "score": {"data": {"label": "score"}, "head": {"kind": "regression"}},
        "words": {
            "data": {"train": f"conll:{folder / 'tags.conll'}", "text": "tokens", "label": "tags"},
            "head": {"kind": "tagging"},
        },
    }
    return config
