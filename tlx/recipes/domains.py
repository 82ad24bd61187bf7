"""What the head reads of both domains of an adaptation run, before training and after: kept, measured, drawn."""

import dataclasses
from pathlib import Path

import numpy as np

from tlx.evaluation.domains import FOLDS, proxy_a_distance
from tlx.files.atomic import atomic_write
from tlx.models.heads import Head
from tlx.reporting.domains import draw_feature_maps, project
from tlx.reporting.figure import save

MOST_ROWS = 1000  # of a domain that are measured: a classifier of more takes minutes


@dataclasses.dataclass(frozen=True)
class Domains:
    """What the head reads of both domains.

    Attributes:
      source: float32 (n, features), of the source's validation split.
      target: float32 (m, features), of the unlabelled target.
      labels: integers (n,), the source's classes.
      predicted: integers (m,), the classes that are predicted for the target.
    """

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray

    def write(self, file: Path) -> None:
        """Writes an npz with the attributes; the file is complete or not there."""
        file.parent.mkdir(exist_ok=True)
        with atomic_write(file, "wb") as opened:
            np.savez(opened, **dataclasses.asdict(self))

    @classmethod
    def read(cls, file: Path) -> "Domains":
        """Reads what `write` wrote."""
        with np.load(file, allow_pickle=False) as found:
            return cls(**{field.name: found[field.name] for field in dataclasses.fields(cls)})


def before_training(run: Path) -> Path:
    """The file of a run with the features of both domains before training."""
    return run / "predictions" / "domains_before.npz"


def distances(run: Path, after: Domains, seed: int = 0) -> dict[str, dict[str, float]]:
    """The proxy A-distance of both domains before training and after, for the summary; {} for fewer than five rows.

    Args:
      run: the run directory, with the features before training.
      after: the features after training.
      seed: of the choice of rows, where a domain has more than a thousand.
    """
    sizes = (len(after.source), len(after.target))
    if min(sizes) < FOLDS:
        return {}
    random = np.random.default_rng(seed)
    of_source, of_target = (np.sort(random.permutation(size)[:MOST_ROWS]) for size in sizes)
    found = {
        name: round(proxy_a_distance(each.source[of_source], each.target[of_target]), 4)
        for name, each in (("before", Domains.read(before_training(run))), ("after", after))
    }
    return {"proxy_a_distance": found}


def write_domains(run: Path, head: Head, after: Domains) -> None:
    """Writes the features after training, and draws both domains before and after.

    Circles have the colors of the source's labels, crosses those of the target's predictions, which in both panels are
    the predictions after training.
    """
    after.write(run / "predictions" / "domains.npz")
    maps = {
        f"what the head reads, {name} training": project(each.source, each.target)
        for name, each in (("before", Domains.read(before_training(run))), ("after", after))
    }
    figure = draw_feature_maps(maps, after.labels, after.predicted, head.labels)
    save(figure, run / "plots" / "domains.png", dpi=120)
