"""Another method on the rows of one seed: logistic regression on the checkpoint's features, or torch.

    python peer.py SEED FOLDER RESULT '{"data.train": "npz:…", …}' regression|C=1|RATE [PYTHON]

`regression` chooses its penalty on validation; `C=1` is scikit-learn's default; a learning rate stands for torch, which
fine-tunes in a process of the other Python with the recipe of these fields.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from tlx.data import labels
from tlx.data.image_examples import ImageExamples
from tlx.features.classifiers import linear_probe
from tlx.features.spec import FeatureSpec
from tlx.features.transformer import encode, extract
from tlx.modalities.image import Images
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.load import from_pretrained
from tlx.recipes import defaults
from tlx.recipes.run_directory import write_json
from tlx.recipes.splits import load_tables
from tlx.studies.study import changed

CHECKPOINT = "$TLX_DATA/weights/vit_mini_cifar8"


def main(seed: int, folder: Path, result: Path, changes: str, method: str, *python: str) -> None:
    """Writes the accuracies on validation and test."""
    config = changed(defaults.finetune(), {**json.loads(changes), "data.split_seed": seed})
    checkpoint = Path(os.path.expandvars(CHECKPOINT))
    processor = ImageProcessor(checkpoint)
    modality = Images(processor)
    tables = load_tables(config.data, modality, "classification")
    images = {part: table.column(config.data.image) for part, table in tables.items()}
    targets = {part: np.array(labels.names(table, config.data.label)) for part, table in tables.items()}
    if python:
        pixels = {part: ImageExamples(each, processor).take(np.arange(len(each))) for part, each in images.items()}
        names = np.unique(targets["train"])
        arrays = {f"{part}_pixels": fields["pixel_values"] for part, fields in pixels.items()}
        arrays |= {f"{part}_labels": np.searchsorted(names, each) for part, each in targets.items()}
        np.savez(folder / "job.npz", **arrays)
        recipe = json.dumps({**json.loads(changes), "seed": seed, "optimizer.learning_rate": float(method)})
        words = [*python, str(Path(__file__).parent / "theirs.py"), str(checkpoint), str(folder / "job.npz"), recipe]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        (folder / "job.npz").unlink()
    else:
        model, params = from_pretrained(checkpoint, 2)  # its head reads the class token, so that it has no pooler
        read = functools.partial(extract, model, params, modality, spec=FeatureSpec((), "cls"), batch_size=500)
        sets = {part: (read(encode(modality, each)), targets[part]) for part, each in images.items()}
        fit = LogisticRegression(max_iter=3000).fit(*sets["train"])
        if method == "regression":
            fit = linear_probe(sets["train"], sets["validation"])
        found = {part: float(np.mean(fit.predict(sets[part][0]) == sets[part][1])) for part in ("validation", "test")}
    write_json(result, {"metrics": {f"{part}/accuracy": value for part, value in found.items()}})


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
