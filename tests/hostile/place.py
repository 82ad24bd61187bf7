"""What the cases start from: good checkpoints, data and runs, made once; each case spoils a copy."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests import tiny
from tests.hostile.limits import watched
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import random_params
from tlx.pretrained.save import write_folder

CANARY = "executed"
SCRIPT, FORMULA = "<script>alert(1)</script>", '=HYPERLINK("https://example.org")'
VIT = ViTConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=8, patch_size=4
)  # fmt: skip


class Place:
    """A folder for all cases; what several need is made when it is first asked for. here: of the case."""

    def __init__(self, root: Path):
        self.root = root
        self.here = root

    def begin(self, name: str) -> "Place":
        """The place of one case, its folder empty but for a module that leaves a trace when it is imported."""
        self.here = self.root / "cases" / name
        self.here.mkdir(parents=True)
        (self.here / "evil.py").write_text(f"{self.payload}\nclass Evil:\n    pass\n")
        return self

    @property
    def payload(self) -> str:
        """A line of Python that leaves the trace."""
        return f"open({str(self.here / CANARY)!r}, 'w').close()"

    @property
    def executed(self) -> bool:
        """Whether something of the case's was run."""
        return (self.here / CANARY).exists()

    def copy(self, name: str) -> Path:
        """A copy of what is called so, in the case's folder."""
        return Path(shutil.copytree(getattr(self, name), self.here / name, symlinks=True))

    @functools.cached_property
    def text(self) -> Path:
        """A BERT of two blocks."""
        return tiny.write_checkpoint(self.root / "text")

    @functools.cached_property
    def vit(self) -> Path:
        """A ViT of one block, for images of 8 × 8."""
        model = build_model(VIT, {})
        folder = write_folder(self.root / "vit", model, random_params(model, 0))
        settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
        (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_convert_rgb": True}))
        return folder

    @functools.cached_property
    def reviews(self) -> Path:
        """80 texts with two labels, which a web page and a spreadsheet would run."""
        file = tiny.write_reviews(self.root / "reviews.csv", 80)
        lines = [line.rsplit(",", 2)[:2] for line in file.read_text().splitlines()]
        names = {"label": "label", "good": SCRIPT, "bad": '"' + FORMULA.replace('"', '""') + '"'}
        file.write_text("".join(f"{text},{names[label]}\n" for text, label in lines))
        return file

    @functools.cached_property
    def photos(self) -> Path:
        """A folder of two classes, four images each."""
        root = self.root / "photos"
        for i in range(8):
            file = root / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)).save(file)
        return root

    @functools.cached_property
    def sets(self) -> Path:
        """Prepared by tensorflow-datasets."""
        from tests.data.test_tfds_guard import TlxHostileSet

        TlxHostileSet(data_dir=self.root / "sets", file_format="array_record").download_and_prepare()
        return self.root / "sets"

    @functools.cached_property
    def config(self) -> Path:
        """The file of every launch: the defaults."""
        file = self.root / "config.py"
        file.write_text("from tlx.recipes import defaults\n\nget_config = defaults.finetune\n")
        return file

    @functools.cached_property
    def run(self) -> Path:
        """A run of three steps on the texts."""
        started = self.root / "training"
        started.mkdir()
        options = {"data.test_fraction": 0.2, "train.epochs": 1, "train.batch_size": 20}
        found = watched([*self.finetune(self.text, f"csv:{self.reviews}", self.root / "run", **options)], started, 300)
        assert found.code == 0, found
        return self.root / "run"

    def finetune(self, checkpoint: Path, data: str, workdir: Path | None = None, **options: object) -> list[str]:
        """The launch of a run in the case's folder."""
        told = {"model.checkpoint": checkpoint, "data.train": data, "data.max_length": 16, **options}
        return [
            "experiments/finetune.py",
            f"--config={self.config}",
            f"--workdir={workdir or self.here / 'workdir'}",
            *(f"--config.{name}={value}" for name, value in told.items()),
        ]

    def features(self, checkpoint: Path, data: str) -> list[str]:
        """`tlx features` of some data."""
        return ["features", str(checkpoint), "--input", data, "--output", str(self.here / "features.npz")]

    def predict(self, run: Path, data: Path | str, output: Path | str | None = None) -> list[str]:
        """`tlx predict` of some data."""
        return ["predict", str(run), "--input", str(data), "--output", str(output or self.here / "answers.csv")]
