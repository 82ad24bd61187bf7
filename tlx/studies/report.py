"""The report of a study: its document, and the files that it is written to."""

from pathlib import Path

from tlx.files.atomic import atomic_write, writable
from tlx.reporting.document import Block, Document, Paragraph, Section, Warnings
from tlx.reporting.formats import to_csv, to_latex, to_markdown
from tlx.reporting.page import to_html
from tlx.studies import report_figures as figures
from tlx.studies import report_tables as tables
from tlx.studies.analysis import Analysis
from tlx.studies.effects import effects
from tlx.studies.misuse import warnings


def write(study: Analysis, folder: Path) -> list[Path]:
    """Writes `report.html`, the same tables as `report.md` and `report.tex`, and a CSV file for each table.

    Args:
      study: the analysed study.
      folder: where the files are written; created if it does not exist.

    Returns:
      The files, the page first.

    Raises:
      TlxError: a file cannot be written.
    """
    document = report(study)
    contents = {"report.html": to_html(document), "report.md": to_markdown(document), "report.tex": to_latex(document)}
    contents |= {f"{table.name}.csv": to_csv(table) for table in document.tables()}
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with atomic_write(folder / name) as opened:
            opened.write(content)
    return [folder / name for name in contents]


def report(study: Analysis) -> Document:
    """Returns the report of a study."""
    sections = [
        Section("Warnings", (Warnings(tuple(warnings(study))),)),
        *_results(study),
        *_section("Factor effects", _effects(study)),
        *_section("Learning curves", [figures.learning_curves(study)]),
        Section("Compute", tuple(block for block in (figures.cost(study), tables.compute(study)) if block)),
        Section("Configs", (tables.changes(study),)),
        *_section("Failures", [tables.failures(study)] if any(arm.failed for arm in study.arms) else []),
        Section("Origin", (tables.origin(study),)),
        Section("How the numbers are computed", tuple(map(Paragraph, _method(study)))),
    ]
    return Document(f"Report of {study.facts.name}", _lead(study), tuple(sections))


def _lead(study: Analysis) -> str:
    trials = [trial for arm in study.arms for trial in arm.trials]
    failed = sum(len(arm.failed) for arm in study.arms)
    unfinished = sum(len(arm.unfinished) for arm in study.arms)
    seeds = len({trial.seed for trial in trials})
    return (
        f"{len(study.arms)} arms, {seeds} seeds, {len(trials)} trials: {len(trials) - failed - unfinished} finished, "
        f"{failed} failed, {unfinished} not finished. Selection: {study.facts.selection.rstrip('.')}. "
        f"Intervals: 95 %, {tables.METHODS[study.method]}, over seeds."
    )


def _results(study: Analysis) -> list[Section]:
    """One section for each split, so that validation and test are kept apart."""
    by_title: dict[str, list[str]] = {}
    for metric in study.metrics:
        by_title.setdefault(tables.split_title(metric), []).append(metric)
    sections = []
    for title, metrics in sorted(by_title.items()):
        blocks: list[Block | None] = []
        if title.endswith("validation"):
            blocks.append(Paragraph("Checkpoints and settings are selected on validation: its values are optimistic."))
        blocks += [tables.results(study, metrics[0]), figures.means(study, metrics[0])]
        blocks += [tables.results(study, metric) for metric in metrics[1:]]
        sections += _section(title, blocks)
    return sections


def _effects(study: Analysis) -> list[Block | None]:
    found = effects(study, study.main)
    if not found:
        return []
    return [tables.effect_table(study, study.main, found), figures.effect_chart(study.main, found)]


def _section(title: str, blocks: list[Block | None]) -> list[Section]:
    """A section without what there is none of; [] if nothing is left."""
    kept = tuple(block for block in blocks if block is not None)
    return [Section(title, kept)] if kept else []


def _method(study: Analysis) -> list[str]:
    interval = {
        "t": "mean ± t · s / √n with Student's t of n − 1 degrees of freedom",
        "bootstrap": "percentile bootstrap of the mean, 10,000 resamples",
    }[study.method]
    return [
        f"Intervals cover 95 % over seeds ({interval}). They say how well the mean over all seeds is known, and "
        "nothing about another test set.",
        "Differences are arm − baseline, paired by seed. p is that of the two-sided paired t-test, after Holm's "
        "correction over the arms of one table; it needs three seeds. Several metrics are several tables, which are "
        "not corrected for each other: decide beforehand which one counts.",
        "An effect of a factor's level is the mean difference between arms that differ in this factor alone, paired "
        "by seed.",
    ]
