"""A small ViT with few images: fine-tuned by tlx and by torch with the same recipe, compared with logistic regression
on its features, on the same samples of labels.

    python benchmarks/few_shot/study.py --workdir=runs/few_shot_study

The tasks are CIFAR-10, and its cats against its dogs, which the checkpoint was not trained on. The dev file is the
test split and is read after all choices. Regularization and learning rate are selected for each number of labels on
separate samples, by the accuracy on images of train outside the sample (with all labels, on a validation split of
train). scikit-learn's regression with its default, C = 1, is another row. Every step is stored under the workdir; the
same command resumes. The other Python is TLX_INTEROP_PYTHON, or .venv-interop.
"""

import dataclasses
import functools
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ours import Ours, Probe, Recipe
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, given_data, interval, kept, not_run, publish, run

from tlx.data.images import fingerprint
from tlx.data.splits import split_by_group, subsample_per_class
from tlx.errors import one_sentence
from tlx.recipes.run_directory import write_json

HERE = Path(__file__).parent
TASKS = {"cifar10": tuple(range(10)), "cats and dogs": (3, 5)}  # name -> labels in the files
COUNTS = (1, 5, 20, 50, 0)  # labels per class; 0: all
DRAWS, ALL_DRAWS, CHOOSING_DRAWS = 10, 4, 3  # samples of labels; with all labels only the seed changes
REGULARISATIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # scikit-learn's C; its default is 1
RATES = {1: (1e-5, 1e-4, 3e-4), 0: (1e-4, 3e-4, 1e-3)}  # with few labels; with all
STEPS, EPOCHS = 100, {"cifar10": 6, "cats and dogs": 15}  # with few labels; with all
JUDGES = 1500  # at most so many images of train are used for selection
STAGES = ("chosen", "default", "regression", "tlx", "torch")
HEADER = (
    "task", "labels a class", "regression, C = 1", "regression", "tlx", "torch", "tlx − regression, C = 1, 95 %",
    "tlx − regression, 95 %", "tlx − torch, 95 %", "C", "rate",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a task.

    Attributes:
      images: uint8 (n, height, width, 3), train first, then test.
      labels: (n,).
      train: rows of the training split.
      validation: rows of the validation split.
      test: rows of the test split.
    """

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def main() -> None:
    """Runs what is missing, prints and writes the table."""
    parser = arguments(__doc__, "runs/few_shot_study")
    parser.add_argument("--minutes", type=float, default=90.0, help="start no row after so many minutes")
    options = parser.parse_args()
    workdir, started, given = options.workdir, time.perf_counter(), given_data("cifar10", "weights")
    warnings.simplefilter("ignore", ConvergenceWarning)
    checkpoint = given / "weights" / "vit_mini_cifar8"
    rows: list[tuple[str, ...]] = []
    left: list[str] = []
    for task, classes in TASKS.items():
        data = read(given / "cifar10", classes)
        ours = functools.cache(functools.partial(Ours, checkpoint, data.images, data.labels, len(classes)))
        for count in COUNTS:
            cell = Cell(workdir / f"{task.replace(' ', '_')}-{count or 'all'}", task, count, data, ours, checkpoint)
            if cell.done() or time.perf_counter() - started < 60 * options.minutes:
                rows.append(cell.row())
                print(*rows[-1], sep="  ", flush=True)
            else:
                left.append(f"{task} with {count or 'all'} labels a class")
            report(workdir, rows, left)


def report(workdir: Path, rows: list[tuple[str, ...]], left: list[str]) -> None:
    """Writes the table of the finished rows."""
    note = (
        f"Test accuracy: the mean of {DRAWS} samples of labels (with all labels, of {ALL_DRAWS} seeds), differences "
        f"paired by sample with Student's interval. Selected on {CHOOSING_DRAWS} other samples (with all labels, on "
        f"validation): C from {len(REGULARISATIONS)} values, the rate from {len(RATES[1])}."
    )
    publish(workdir, "few labels", HEADER, rows, below=note + not_run(left))


def read(folder: Path, classes: tuple[int, ...]) -> Data:
    """Reads the images of these classes; labels count from 0."""
    parts = {}
    for part in ("train", "dev"):
        with np.load(folder / f"{part}.npz") as saved:
            kept = np.isin(saved["label"], classes)
            parts[part] = saved["image"][kept], np.searchsorted(classes, saved["label"][kept])
    size = len(parts["train"][1])
    pieces = split_by_group(
        [fingerprint(image) for image in parts["train"][0]], {"validation": 0.1 if len(classes) > 2 else 0.2}, 0
    )
    images, labels = (np.concatenate([parts["train"][i], parts["dev"][i]]) for i in range(2))
    return Data(images, labels, pieces["train"], pieces["validation"], np.arange(size, len(labels)))


@dataclasses.dataclass
class Cell:
    """One task with one number of labels: a row of the table."""

    folder: Path
    task: str
    count: int
    data: Data
    load: Callable[[], Ours]
    checkpoint: Path

    @property
    def ours(self) -> Ours:
        """The network, loaded when it is first needed."""
        return self.load()

    @functools.cached_property
    def features(self) -> np.ndarray:
        """The features of all images."""
        return self.ours.features()

    def done(self) -> bool:
        """Whether all results are stored."""
        return all((self.folder / f"{name}.json").is_file() for name in STAGES)

    def row(self) -> tuple[str, ...]:
        """The row of the table; computes what is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        chosen = self.kept("chosen", self.choose)
        recipe, regularisation = self.recipe(chosen["rate"]), chosen["regularisation"]
        scores = {
            "default": self.kept("default", lambda: self.regressed(1.0)),
            "regression": self.kept("regression", lambda: self.regressed(regularisation)),
            "tlx": self.kept("tlx", lambda: self.tuned(recipe, regularisation)),
            "torch": self.kept("torch", lambda: self.torch(recipe, regularisation)),
        }
        means = [f"{np.mean(scores[who]):.4f}" for who in ("default", "regression", "tlx", "torch")]
        tlx = np.array(scores["tlx"])
        return (
            self.task, str(self.count or "all"), *means,
            *(str(interval((100, tlx - scores[other]))) for other in ("default", "regression", "torch")),
            f"{regularisation:g}", f"{recipe.learning_rate:g}",
        )  # fmt: skip

    def kept(self, name: str, find: Callable[[], Any]) -> Any:
        """The stored result, or computes and stores it."""

        def timed() -> dict[str, Any]:
            started = time.perf_counter()
            return {"found": find(), "seconds": round(time.perf_counter() - started, 1)}

        return kept(self.folder / f"{name}.json", timed)["found"]

    def recipe(self, rate: float) -> Recipe:
        """The recipe with one learning rate."""
        steps = STEPS if self.count else EPOCHS[self.task] * len(self.data.train) // 32
        return Recipe(rate, steps)

    def draws(self, first: int, draws: int) -> list[tuple[int, np.ndarray]]:
        """Samples of labels: (seed, rows of train)."""
        labels, rows = self.data.labels[self.data.train], self.data.train
        seeds = range(first, first + draws)
        return [
            (seed, rows[subsample_per_class(labels.tolist(), self.count, seed)] if self.count else rows)
            for seed in seeds
        ]

    def tested(self) -> list[tuple[int, np.ndarray]]:
        return self.draws(0, DRAWS if self.count else ALL_DRAWS)

    def choose(self) -> dict[str, Any]:
        """Selects C, then with it the learning rate, by the mean accuracy on images outside the samples.

        The samples are others than those of the test.
        """
        draws = [
            (seed, rows, self.judges(rows)) for seed, rows in self.draws(1000, CHOOSING_DRAWS if self.count else 1)
        ]
        regressions = {
            c: float(np.mean([self.score(self.probe(c, rows), asked) for _, rows, asked in draws]))
            for c in REGULARISATIONS
        }
        c = max(regressions, key=lambda c: regressions[c])
        tuned = {}
        for rate in RATES[min(self.count, 1)]:
            recipe = self.recipe(rate)
            found = [
                self.accuracy(self.ours.predictions(recipe, self.probe(c, rows), rows, seed, asked), asked)
                for seed, rows, asked in draws
            ]
            tuned[rate] = float(np.mean(found))
        rate = max(tuned, key=lambda rate: tuned[rate])
        return {"regularisation": c, "rate": rate, "validation": {"regression": regressions, "tlx": tuned}}

    def judges(self, rows: np.ndarray) -> np.ndarray:
        """The images of train that are used for selection."""
        if not self.count:
            return self.data.validation
        left = np.setdiff1d(np.concatenate([self.data.train, self.data.validation]), rows)
        return np.random.default_rng(0).permutation(left)[:JUDGES]

    def probe(self, c: float, rows: np.ndarray) -> Probe:
        """Fits logistic regression; returns it as kernel and bias of a head."""
        fitted = LogisticRegression(C=c, max_iter=3000).fit(self.features[rows], self.data.labels[rows])
        kernel, bias = fitted.coef_.T, fitted.intercept_
        if kernel.shape[1] == 1:  # for two classes scikit-learn gives the difference of the logits
            kernel, bias = np.concatenate([-kernel / 2, kernel / 2], 1), np.concatenate([-bias / 2, bias / 2])
        return kernel, bias

    def score(self, probe: Probe, asked: np.ndarray) -> float:
        """The accuracy of a regression."""
        return self.accuracy(self.features[asked] @ probe[0] + probe[1], asked)

    def accuracy(self, logits: np.ndarray, asked: np.ndarray) -> float:
        return float((logits.argmax(-1) == self.data.labels[asked]).mean())

    def regressed(self, c: float) -> list[float]:
        """Test accuracies of the regression."""
        return [self.score(self.probe(c, rows), self.data.test) for _, rows in self.tested()]

    def tuned(self, recipe: Recipe, c: float) -> list[float]:
        """Test accuracies of tlx."""
        asked = self.data.test
        return [
            self.accuracy(self.ours.predictions(recipe, self.probe(c, rows), rows, seed, asked), asked)
            for seed, rows in self.tested()
        ]

    def torch(self, recipe: Recipe, c: float) -> list[float]:
        """Test accuracies of torch, in a process of the other Python, with the same order of examples."""
        arrays: dict[str, np.ndarray] = {
            "pixels": self.ours.pixels, "labels": self.data.labels.astype(np.int64), "tested": self.data.test,
        }  # fmt: skip
        for index, (seed, rows) in enumerate(self.tested()):
            kernel, bias = self.probe(c, rows)
            arrays |= {
                f"rows{index}": recipe.rows(rows, seed),
                f"kernel{index}": kernel.astype(np.float32),
                f"bias{index}": bias.astype(np.float32),
            }
        np.savez(self.folder / "job.npz", **arrays)  # type: ignore[arg-type]
        job = {
            "seeds": [seed for seed, _ in self.tested()], "recipe": dataclasses.asdict(recipe),
            "data": str(self.folder / "job.npz"), "out": str(self.folder / "torch.npz"),
            "checkpoint": str(self.checkpoint), "threads": 1,  # the matrices are small
        }  # fmt: skip
        write_json(self.folder / "job.json", job)
        run("torch", HERE / "theirs.py", self.folder / "job.json")
        (self.folder / "job.npz").unlink()
        with np.load(self.folder / "torch.npz") as saved:
            return [self.accuracy(logits, self.data.test) for logits in saved["predictions"]]


if __name__ == "__main__":
    with one_sentence():
        main()
