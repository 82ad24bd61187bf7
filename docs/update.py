"""Writes measured tables and pictures into README and docs, so that no number there is typed by hand.

python docs/update.py demo runs/demo
python docs/update.py tools runs/demo
python docs/update.py sst2_freezing runs/studies/sst2_freezing
python docs/update.py strategies runs/studies/strategies_sst2 runs/studies/strategies_mnist_m
python docs/update.py trainer runs/studies/trainer_*
python docs/update.py few_shot runs/studies/few_shot_*
python docs/update.py freezing runs/studies/freezing_count
python docs/update.py beside runs/studies/freezing_steps
python docs/update.py cached runs/studies/freezing_head
python docs/update.py results runs/sst2 runs/ag_news runs/mrpc runs/stsb runs/wnut17
python docs/update.py formats runs/formats
python docs/update.py loading runs/loading
python docs/update.py digits runs/digits_transfer
python docs/update.py images runs/images/1000
python docs/update.py packing runs/packing
python docs/update.py packed runs/studies/packing
python docs/update.py saving runs/saving
python docs/update.py speed runs/speed
python docs/update.py memory_kept runs/memory_kept
python docs/update.py masks runs/masks
python docs/update.py depth runs/depth
python docs/update.py first_step runs/first_step
python docs/update.py growth runs/growth
python docs/update.py jax_versions runs/jax_versions
python docs/update.py overhead runs/overhead
python docs/update.py shifts runs/shifts
python docs/update.py adaptation_costs runs/adaptation_costs
python docs/update.py multitask_toy runs/multitask_toy
python docs/update.py adaptation runs/studies/adapt_*
python docs/update.py adapt_vit runs/adapt_vit/source_only runs/adapt_vit/deep_coral
python docs/update.py tasks runs/studies/tasks
"""

import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tlx.evaluation.metrics import MONITOR
from tlx.reporting.tables import insert, markdown
from tlx.runs.evaluate import evaluate
from tlx.studies import report_tables
from tlx.studies.analysis import Analysis, ArmTrials, analyse
from tlx.studies.records import read_study
from tlx.studies.report import write
from tlx.studies.statistics import Interval, mean_interval
from tlx.training.writers import read_metrics

ROOT = Path(__file__).parent.parent

# Part -> the page that gets the table.md of its run, or the table of its studies.
TABLES = {
    "formats": "formats", "loading": "formats", "digits": "images", "images": "images", "packing": "packing",
    "saving": "safety", "speed": "speed", "memory_kept": "speed", "masks": "speed",
    "depth": "speed", "first_step": "speed", "growth": "speed", "jax_versions": "speed",
    "overhead": "studies", "shifts": "adaptation_methods", "adaptation_costs": "adaptation_methods",
    "multitask_toy": "howto_tasks",
}  # fmt: skip
STUDIES = {
    "trainer": "trainer", "few_shot": "images", "freezing": "freezing", "beside": "freezing",
    "cached": "freezing", "packed": "packing",
}  # fmt: skip

CHOICES = {  # of a checkpoint, and how the metrics of a study of domain adaptation name them
    "oracle": "oracle/", "last step": "last/", "source validation": "", "information maximization":
    "information_maximization/", "soft neighborhood density": "soft_neighborhood_density/",
}  # fmt: skip


def table(part: str, run: Path) -> None:
    """Writes a study's table into its page, and copies its picture if there is one."""
    insert(ROOT / "docs" / f"{TABLES[part]}.md", part, (run / "table.md").read_text())
    if (picture := run / f"{part}.png").is_file():
        shutil.copyfile(picture, ROOT / "docs" / picture.name)


def study(page: Path, part: str, *workdirs: Path, below: str = "") -> None:
    """Writes a table for each study: its metrics over seeds, with the test of the main metric, and the compute."""
    parts = []
    for workdir in workdirs:
        found = analyse(*read_study(workdir))
        tables = [report_tables.results(found, metric) for metric in found.metrics]
        compute = report_tables.compute(found)
        columns = [(metric, each, 1) for metric, each in zip(found.metrics, tables, strict=True)]
        if len(found.baseline.complete) > 1:
            columns[1:1] = [(tables[0].columns[index].title, tables[0], index) for index in (2, 3)]
        columns += [(compute.columns[index].title, compute, index) for index in (1, 2, 3)]
        rows = [
            (arm.name, *(each.rows[row][index].text for _, each, index in columns))
            for row, arm in enumerate(found.arms)
        ]
        seeds = len(found.baseline.trials)
        title = f"{found.facts.name}, {seeds} {'seed' if seeds == 1 else 'seeds'}, revision {found.facts.revision}:"
        parts.append(f"{title}\n\n{markdown(('arm', *(name for name, _, _ in columns)), rows)}")
    insert(page, part, "\n".join(parts) + below)


def adaptation(*workdirs: Path) -> None:
    """Writes a table for each study of domain adaptation: what every way to choose a checkpoint gives on the target."""
    published = json.loads((ROOT / "benchmarks" / "adaptation" / "published.json").read_text())
    parts = []
    for workdir in workdirs:
        found = analyse(*read_study(workdir))
        facts, known = found.facts, published.get(found.facts.name, {"source": "none", "accuracy": {}})
        differences = found.differences(found.main)
        by_name = {arm.name: arm for arm in found.arms}
        rows, below, below_skada, failed = [], [], [], []
        for arm in found.arms:
            by = [found.interval(arm, f"{name}target_test/accuracy") for name in CHOICES.values()]
            gain = differences[arm.name].interval if arm.name in differences else None
            shown = "–" if gain is None or gain.count < 2 else f"{gain.mean:+.3f} ± {gain.half_width:.3f}"
            value = known["accuracy"].get(arm.name)
            if value is not None and by[0].high < value:
                below.append(arm.name)
            cells = [f"{each.mean:.3f} ± {each.half_width:.3f}" if each.count > 1 else "–" for each in by]
            beside = against(arm.values(found.main), by_name.get(f"{arm.name}, skada"), found.main)
            if beside is not None and beside.high < 0:
                below_skada.append(arm.name)
            if arm.failed:
                failed.append(f"{arm.name}, {len(arm.failed)} of {len(arm.trials)}")
            cells += [shown, "–" if beside is None else f"{beside.mean:+.3f} ± {beside.half_width:.3f}"]
            seconds = found.seconds(arm)
            cells += ["–" if value is None else f"{value:.3f}", f"{seconds.mean:.0f}" if seconds.count else "–"]
            rows.append((arm.name, *cells))
        sizes = ", ".join(f"{name.removeprefix('data.')} {value}" for name, value in facts.sizes.items() if value != "")
        parts.append(
            f"{facts.name} ({sizes}), revision {facts.revision}, {minutes_of(found):.0f} minutes in all; "
            f"published: {known['source']}. The gain is that of the oracle over {found.baseline.name}.\n\n"
            + markdown(("method", *CHOICES, "gain", "oracle − skada's", "published", "s"), rows)
            + (f"\nBelow the published value by more than the interval: {', '.join(below)}.\n" if below else "")
            + (f"\nBelow skada's by more than the interval: {', '.join(below_skada)}.\n" if below_skada else "")
            + (f"\nFailed runs, which are in no mean: {'; '.join(failed)}.\n" if failed else "")
        )
    insert(ROOT / "docs" / "adaptation_methods.md", "adaptation", "\n".join(parts))


def adapt_vit(*runs: Path) -> None:
    """Writes the target accuracy of runs by each choice of a checkpoint, and the proxy A-distance after them."""
    rows = []
    for run in runs:
        found = json.loads((run / "summary.json").read_text())["target"]
        chosen = [found[name]["value"] for name in ("oracle", "selected", "last")]
        chosen += [found["validators"]["information_maximization"]["value"], found["proxy_a_distance"]["after"]]
        rows.append((run.name, *(f"{value:.3f}" for value in chosen)))
    header = ("method", "oracle", "source validation", "last step", "information maximization", "proxy A-distance")
    insert(ROOT / "docs" / "adaptation_methods.md", "adapt_vit", markdown(header, rows))


def against(ours: Mapping[int, float], theirs: ArmTrials | None, metric: str) -> Interval | None:
    """The mean difference of an arm from another one, paired by seed; None without two seeds that both have."""
    values = {} if theirs is None else theirs.values(metric)
    differences = [ours[seed] - values[seed] for seed in ours if seed in values]
    return mean_interval(differences) if len(differences) > 1 else None


def minutes_of(found: Analysis) -> float:
    """The minutes of all runs of a study, one after the other."""
    return sum(trial.seconds or 0 for arm in found.arms for trial in arm.complete) / 60


def tasks(workdir: Path) -> None:
    """Writes the table of the methods of several tasks, and draws the mean gains over each task alone."""
    found = analyse(*read_study(workdir))
    metrics = [metric for metric in found.metrics if "test/" in metric]
    differences = found.differences(metrics[0])
    batch, rows, gains = found.arms[0].complete[0].budget["batch size"], [], []
    for arm in found.arms:
        by_metric = [found.interval(arm, metric) if arm.has(metric) else None for metric in metrics]
        cells = ["–" if each is None else f"{100 * each.mean:.1f} ± {100 * each.half_width:.1f}" for each in by_metric]
        rates = [
            line["train/examples_per_s"]
            for trial in arm.complete
            for line in read_metrics(Path(str(trial.workdir)))[1:]  # the first has the compilation
            if "train/examples_per_s" in line
        ]
        peak = max(trial.peak_memory_bytes or 0 for trial in arm.complete) / 2**20
        trained = arm.complete[0].trainable_parameters
        step = 1e3 * batch / statistics.median(rates)
        beside = differences[arm.name].interval if arm.name in differences else None
        compared = beside is not None and beside.count > 1
        cells.insert(1, f"{100 * beside.mean:+.1f} ± {100 * beside.half_width:.1f}" if compared else "–")
        rows.append((arm.name, str(len(arm.complete)), *cells, f"{step:,.0f}", f"{peak:,.0f}", f"{trained:,}"))
        if by_metric[0] is not None:
            gains.append((arm.name, 100 * by_metric[0].mean, 100 * by_metric[0].half_width))
    sizes = ", ".join(f"{name} {value}" for name, value in found.facts.sizes.items())
    names = [metric.removeprefix("test/").replace("/test/", " ").replace("delta_m", "Δm") for metric in metrics]
    names.insert(1, f"Δm − {found.baseline.name}'s")
    header = ("arm", "seeds", *names, "ms a step", "peak MiB", "trained parameters")
    left = sum(len(arm.trials) - len(arm.complete) for arm in found.arms)
    total = sum(len(arm.trials) for arm in found.arms)
    below = f"\nNot finished: {left} of {total} runs.\n" if left else ""
    title = (
        f"{found.facts.name} ({sizes}), revision {found.facts.revision}, {minutes_of(found):.0f} minutes in all; "
        "in per cent, mean ± 95 % interval:\n\n"
    )
    insert(ROOT / "docs" / "howto_tasks.md", "tasks", title + markdown(header, rows) + below)
    label = "Δm on test, per cent"
    draw_means(ROOT / "docs" / "tasks.png", {found.facts.name: gains}, label)


def strategies(*workdirs: Path) -> None:
    """Writes the table of the strategies, and draws their scores."""
    selection = read_study(workdirs[0])[0].selection
    study(ROOT / "docs" / "freezing.md", "strategies", *workdirs, below=f"\nSelection: {selection}.\n")
    panels = {}
    for workdir in workdirs:
        found = analyse(*read_study(workdir))
        by_arm = [(arm.name, found.interval(arm, found.main)) for arm in found.arms]
        panels[found.facts.name] = [(name, 100 * each.mean, 100 * each.half_width) for name, each in by_arm]
    draw_means(ROOT / "docs" / "strategies.png", panels, "accuracy on test, per cent")


def draw_means(file: Path, panels: Mapping[str, Sequence[tuple[str, float, float]]], label: str) -> None:
    """Draws means of arms with their intervals, a panel for each study: (arm, mean, half of the interval)."""
    import matplotlib.pyplot as plt

    height = 0.35 * max(map(len, panels.values())) + 1
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(2.5 + 3.5 * len(panels), height), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (title, rows) in zip(all_axes[0], panels.items(), strict=True):
        names, means, widths = zip(*reversed(rows), strict=True)
        axes.errorbar(means, names, xerr=widths, fmt="o", capsize=3)
        axes.set_title(title)
        axes.grid(axis="x", alpha=0.4)
    figure.supxlabel(f"{label}, with its 95 % interval over seeds", fontsize="medium")
    figure.savefig(file, dpi=110)


def example(workdir: Path) -> None:
    """Writes the table of the example study into README, and keeps its report as an example."""
    link = "\nThe whole report, as one page: [docs/sst2_freezing.html](docs/sst2_freezing.html).\n"
    study(ROOT / "README.md", "sst2_freezing", workdir, below=link)
    write(analyse(*read_study(workdir)), workdir / "report")
    shutil.copyfile(workdir / "report" / "report.html", ROOT / "docs" / "sst2_freezing.html")


def demo(run: Path) -> None:
    """Writes the demo's table, palette and curves."""
    insert(ROOT / "README.md", "demo", (run / "table.md").read_text())
    for picture in ("palette.png", "curves.png"):
        shutil.copyfile(run / picture, ROOT / "docs" / picture)


def results(*runs: Path) -> None:
    """Writes the test scores of finished runs and the reference rows of the data's README, which were fitted on all of
    train. A run directory has the name of its data set."""
    rows = []
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        kind = json.loads((run / "config.json").read_text())["heads"]["default"]["kind"]
        sizes = " / ".join(str(summary["examples"][part]) for part in ("train", "validation", "test"))
        for method, metric, value in references(run.name) or [("", MONITOR[kind], "")]:
            ours = [f"{summary['metrics'][f'{part}/{metric}']:.4f}" for part in ("validation", "test")]
            rows.append((run.name, sizes, metric, method, value, *ours, f"{summary['seconds']:.0f}"))
        rows += [
            (f"{run.name} to {domain}", f"– / – / {found.examples}", "accuracy", method, value, "–",
             f"{found.metrics['accuracy']:.4f}", "–")
            for domain, method, value in other_domains(run.name)
            for found in evaluate(run, f"csv:$TLX_DATA/amazon_reviews/{domain}_test.csv").values()
        ]  # fmt: skip
    header = ("set", "train / validation / test", "metric", "reference", "its test", "validation", "test", "s")
    insert(ROOT / "docs" / "results.md", "results", markdown(header, rows))


def references(name: str) -> list[tuple[str, str, str]]:
    """(method, metric, value) of a data set's rows in $TLX_DATA/README.md, without the majority baseline."""
    text = (Path(os.environ["TLX_DATA"]) / "README.md").read_text()
    row = rf"^\| (?:{name} dev|sentiment {name}->{name}) \| (.+?) \| (.+?) \| ([\d.]+) \|$"
    found = re.findall(row, text, re.MULTILINE)
    return [(method, metric.lower(), value) for method, metric, value in found if method != "majority"]


def other_domains(name: str) -> list[tuple[str, str, str]]:
    """(domain, method, accuracy) of the reference rows of models trained on one category and tested on another."""
    text = (Path(os.environ["TLX_DATA"]) / "README.md").read_text()
    found = re.findall(rf"^\| sentiment {name}->(\w+) \| (.+?) \| accuracy \| ([\d.]+) \|$", text, re.MULTILINE)
    return [row for row in found if row[0] != name]


def tools(run: Path) -> None:
    """Writes the outputs of the commands on the demo's fine-tuned run (`runs/demo`)."""
    page, tuned = ROOT / "docs" / "tools.md", run / "fine-tuned"
    config = "configs/colors.py"
    rows = "name,shop\ndusty teal,A\nmacaroni and cheese,B\n"
    for name, arguments in {
        "inspect": ["inspect", config],
        "predict": ["predict", tuned, "a foggy morning in the forest", "ripe tomato"],
        "predict a file": ["predict", tuned, "--input", "-", "--format", "csv"],
        "evaluate": ["evaluate", tuned],
        "doctor": ["doctor"],
    }.items():
        command = [sys.executable, "-m", "tlx.cli.main", *map(str, arguments)]
        process = subprocess.run(command, input=rows, capture_output=True, text=True, check=True, cwd=ROOT)
        output = process.stdout.replace(str(Path.home()), "~").replace(str(run), "runs/demo")
        lines = output.splitlines()
        lines = [*lines[:14], "…", *lines[-18:]] if len(lines) > 60 else lines
        insert(page, name, "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n")


if __name__ == "__main__":
    parts = {
        "demo": demo, "results": results, "tools": tools, "sst2_freezing": example, "adaptation": adaptation,
        "adapt_vit": adapt_vit,
        "tasks": tasks, "strategies": strategies,
        **{part: functools.partial(table, part) for part in TABLES},
        **{part: functools.partial(study, ROOT / "docs" / f"{page}.md", part) for part, page in STUDIES.items()},
    }  # fmt: skip
    parts[sys.argv[1]](*map(Path, sys.argv[2:]))
