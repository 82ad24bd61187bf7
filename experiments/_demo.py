"""The demo: predicts a colour from its name, and compares fine-tuning with baselines in a table and a picture."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _baselines import Fitted, constant, ridge, tfidf_ridge
from _palette import plot_palette
from ml_collections import ConfigDict

from tlx.data.colors import nearest_terms
from tlx.evaluation.regression import mean_error, r2
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import from_pretrained
from tlx.recipes import finetune
from tlx.recipes.inputs import open_inputs
from tlx.recipes.run_directory import write_json
from tlx.reporting.curves import plot_curves
from tlx.reporting.tables import markdown, show
from tlx.training.writers import read_metrics

HEADER = ("on the test split", "mean ΔE76", "R²", "basic term right", "tried")
PALETTE_ROWS = 60
TRIED = {"fine-tuned": 8, "random weights": 4}  # settings compared on validation; docs/colors.md lists them


def run(pretrained: ConfigDict, random: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains both networks (or resumes), fits the baselines, and writes table, palette and curves under `workdir`."""
    started = time.perf_counter()
    job = finetune.build(pretrained, workdir / "fine-tuned")
    datasets = job.datasets["default"]
    sizes = ", ".join(f"{n} {part}" for part, n in datasets.facts["examples"].items())
    groups = sum(datasets.facts["groups"].values())
    names = sum(datasets.facts["examples"].values())
    print(f"{names} colour names in {groups} groups of the same words, each group in one split: {sizes}.", flush=True)
    rows: dict[str, Fitted] = classical(datasets, pretrained)
    jobs = {"random weights": finetune.build(random, workdir / "random-weights"), "fine-tuned": job}
    for name, job in jobs.items():
        job.run()
        predictions = np.load(job.run_directory / "predictions" / "test.npz")["predictions"]
        rows[name] = Fitted(predictions, "", TRIED[name])
    tested = [str(text) for text in datasets.tables["test"].column(pretrained.data.text)]
    return report(rows, datasets, tested, workdir, started)


def classical(datasets: Any, config: ConfigDict) -> dict[str, Fitted]:
    """The rows of the table that train no network."""
    examples = datasets.examples
    texts = {part: [str(text) for text in table.column(config.data.text)] for part, table in datasets.tables.items()}
    targets = {part: examples[part].fields["label"] for part in examples}
    pairs = {part: (texts[part], targets[part]) for part in examples}
    folder = resolve(config.model.checkpoint)
    model, params = from_pretrained(folder, heads={})
    extractor = Extractor(model, params, open_inputs(folder, config), FeatureSpec((), "mean"))
    frozen = {part: extractor(examples[part]).values[:, 0] for part in examples}
    return {
        "mean colour": constant(targets["train"], len(targets["test"])),
        "word TF-IDF + ridge": tfidf_ridge(True, pairs["train"], pairs["validation"], texts["test"], mean_error),
        "character TF-IDF + ridge": tfidf_ridge(False, pairs["train"], pairs["validation"], texts["test"], mean_error),
        "frozen features + ridge": ridge(
            (frozen["train"], targets["train"]),
            (frozen["validation"], targets["validation"]),
            frozen["test"],
            mean_error,
        ),
    }


def report(
    rows: Mapping[str, Fitted], datasets: Any, names: list[str], workdir: Path, started: float
) -> dict[str, Any]:
    """Scores every row on the test split, prints and writes the results."""
    targets = datasets.examples["test"].fields["label"]
    terms = np.array(nearest_terms(targets))
    scores = {
        name: {
            "mean_error": mean_error(row.predictions, targets),
            "r2": r2(row.predictions, targets),
            "term_accuracy": float((np.array(nearest_terms(row.predictions)) == terms).mean()),
            "tried": row.tried,
        }
        for name, row in rows.items()
    }
    lines = [
        (name, f"{s['mean_error']:.1f}", f"{s['r2']:.3f}", f"{s['term_accuracy']:.0%}", str(s["tried"]))
        for name, s in scores.items()
    ]
    (workdir / "table.md").write_text(markdown(HEADER, lines), encoding="utf-8")
    chosen = np.linspace(0, len(names) - 1, min(PALETTE_ROWS, len(names))).astype(int)  # evenly spaced
    titles = {
        "fine-tuned": "fine-tuned",
        "random weights": "random\nweights",
        "frozen features + ridge": "frozen\n+ ridge",
        "character TF-IDF + ridge": "char\nTF-IDF",
    }
    shown = {"true": targets, **{title: rows[name].predictions for name, title in titles.items()}}
    plot_palette([names[i] for i in chosen], {k: v[chosen] for k, v in shown.items()}, workdir / "palette.png")
    runs = {name: read_metrics(workdir / name.replace(" ", "-")) for name in ("fine-tuned", "random weights")}
    plot_curves(runs, workdir / "curves.png")
    summary = {"test": scores, **datasets.facts, "seconds": round(time.perf_counter() - started, 1)}
    write_json(workdir / "summary.json", summary)
    show(f"The colour from its name, {len(targets)} names that are not in train", HEADER, lines)
    run = workdir / "fine-tuned"
    print(
        f"\n{summary['seconds']:.0f} s. The run is {run}; pictures: palette.png, curves.png in {workdir}.\n"
        f"Next:  .venv/bin/tlx predict {run} 'a foggy morning in the forest'\n"
        f"       .venv/bin/tlx export {run} --to my-colors        (a folder that transformers opens)\n"
        "       .venv/bin/python experiments/finetune.py --config=configs/text_file.py --workdir=runs/yours "
        "--config.data.train=csv:YOURS.csv"
    )
    return summary
