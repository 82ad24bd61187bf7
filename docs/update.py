"""Puts measured tables and pictures into README and docs, so that no figure there is typed by hand.

python docs/update.py demo runs/demo
python docs/update.py results runs/sst2 runs/ag_news
python docs/update.py trainer runs/trainer
"""

import json
import shutil
import sys
from pathlib import Path

from tlx.evaluation.baselines import tfidf_logistic
from tlx.recipes.sets import load_tables
from tlx.reporting.tables import insert, markdown

ROOT = Path(__file__).parent.parent


def demo(run: Path) -> None:
    """The demo's table, palette and curves."""
    insert(ROOT / "README.md", "demo", (run / "table.md").read_text())
    for picture in ("palette.png", "curves.png"):
        shutil.copyfile(run / picture, ROOT / "docs" / picture)


def results(*runs: Path) -> None:
    """Test accuracy of finished classification runs beside TF-IDF and logistic regression on the same rows."""
    from ml_collections import ConfigDict

    rows = []
    for run in runs:
        written = json.loads((run / "config.json").read_text())
        summary = json.loads((run / "summary.json").read_text())
        config = ConfigDict(written["config"]).data
        tables = {part: table.columns for part, (table, _) in load_tables(config).items()}
        baseline = tfidf_logistic(
            *((tables[part][config.text], tables[part][config.label]) for part in ("train", "test"))
        )
        sizes, metrics = summary["examples"], summary["metrics"]
        rows.append(
            (
                run.name,
                " / ".join(str(sizes[part]) for part in ("train", "validation", "test")),
                f"{baseline:.4f}",
                f"{metrics['validation/accuracy']:.4f}",
                f"{metrics['test/accuracy']:.4f}",
                f"{summary['seconds']:.0f}",
            )
        )
    header = ("set", "train / validation / test", "TF-IDF(1-2) + LR, test", "tlx, validation", "tlx, test", "seconds")
    insert(ROOT / "docs" / "results.md", "results", markdown(header, rows))


def trainer(run: Path) -> None:
    """The comparison with the Hugging Face Trainer."""
    insert(ROOT / "docs" / "trainer.md", "trainer", (run / "table.md").read_text())


if __name__ == "__main__":
    {"demo": demo, "results": results, "trainer": trainer}[sys.argv[1]](*map(Path, sys.argv[2:]))
