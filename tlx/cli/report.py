"""`tlx report STUDY|RUN…`: writes a report as HTML, Markdown, LaTeX and CSV."""

import argparse
from pathlib import Path

from tlx.errors import TlxError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds PATH…, --to, --baseline, --interval and --metric."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="STUDY|RUN",
        help="the directory of a study, or run directories: those whose configs differ in the seed alone are one arm",
    )
    parser.add_argument("--to", metavar="FOLDER", help="default: `report` in the study's directory, or here for runs")
    parser.add_argument("--baseline", metavar="ARM", help="default: the study's baseline, or the first run's arm")
    parser.add_argument("--interval", choices=("t", "bootstrap"), default="t", help="kind of intervals (%(default)s)")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="a metric of runs, such as macro_f1 (of several tasks, TASK/macro_f1), several times for several; "
        "default: the one that selected the checkpoint",
    )


def main(arguments: argparse.Namespace) -> None:
    """Writes the files and prints the page's path and the warnings."""
    from tlx.studies.analysis import analyse
    from tlx.studies.misuse import warnings
    from tlx.studies.report import write

    paths = [Path(path) for path in arguments.paths]
    if missing := [str(path) for path in paths if not path.is_dir()]:
        raise TlxError(f"{missing[0]} is no folder; tlx report takes the directory of a study, or run directories.")
    runs = [path for path in paths if (path / "config.json").is_file()]
    if runs or len(paths) > 1:
        from tlx.cli.launch import quiet_logs
        from tlx.studies.run_records import read_runs

        quiet_logs()
        facts, records = read_runs(paths, arguments.metric)
    else:
        from tlx.studies.records import read_study

        if arguments.metric:
            raise TlxError("--metric is for runs; the metrics of a study are those of its file.")
        facts, records = read_study(paths[0])
    study = analyse(facts, records, arguments.interval, arguments.baseline)
    folder = Path(arguments.to or (Path("report") if runs else paths[0] / "report"))
    files = write(study, folder)
    for sentence in warnings(study):
        print(f"warning: {sentence}")
    print(f"{files[0]}: {len(study.arms)} arms, {len(records)} trials; the same tables in {len(files) - 1} other files")
