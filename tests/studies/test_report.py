"""The written report: the same numbers in every format, well-formed and escaped, readable without sight of charts."""

import csv
import dataclasses
import html.parser
import re
import time
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.studies.simulated import facts, grid, trial
from tlx.reporting.formats import FORMULA, latex, to_csv
from tlx.reporting.page import to_html
from tlx.studies.analysis import analyse
from tlx.studies.report import report, write
from tlx.studies.report_figures import means
from tlx.studies.report_tables import results

HOSTILE = '<script>alert(1)</script> "a" & $x$ \\input{/etc/passwd} _b_ | **c** %\n\x1b[31m#'


class Page(html.parser.HTMLParser):
    """Elements that are open, all elements with their attributes, and texts."""

    VOID = ("meta", "line", "rect", "circle", "polyline", "polygon")

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("report")
    written = write(analyse(facts(), grid(5, folder / "runs")), folder / "out")
    assert written[0].name == "report.html"
    return {file.name: file.read_text() for file in written}


def test_all_formats_hold_the_same_table(files: dict[str, str]) -> None:
    rows = list(csv.DictReader(files["results-test-accuracy.csv"].splitlines()))
    assert len(rows) == 18 and rows[0]["arm"] == "all, 1e-4, 4000" and rows[0]["p"] == ""
    trials = [t for t in grid(5) if t.arm == rows[3]["arm"]]
    mean = sum(t.metrics["test/accuracy"] for t in trials) / 5
    assert float(rows[3]["mean"]) == pytest.approx(mean, rel=1e-12)
    for row in rows:
        half = (float(row["high"]) - float(row["low"])) / 2
        shown = f"{float(row['mean']):.4f} ± {half:.4f}"
        assert shown in files["report.html"] and shown in files["report.md"]
        assert shown.replace("±", r"$\pm$") in files["report.tex"]


def test_the_page_is_well_formed_and_alone(files: dict[str, str]) -> None:
    page = Page(files["report.html"])
    assert page.open == []
    names = [name for name, _ in page.elements]
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert not re.search(r"(src|href)=\"(?!#)", files["report.html"]) and "url(" not in files["report.html"]
    targets = {values.get("id") for _, values in page.elements}
    assert {str(values["href"])[1:] for name, values in page.elements if name == "a"} <= targets


def test_headings_table_headers_and_texts_for_charts(files: dict[str, str]) -> None:
    page = Page(files["report.html"])
    assert [name for name, _ in page.elements if name in ("h1", "h2", "h3")][:2] == ["h1", "h2"]
    assert page.elements[0] == ("html", {"lang": "en"})
    assert all(values.get("scope") in ("col", "row") for name, values in page.elements if name == "th")
    tables = [values for _, values in page.elements if values.get("class") == "table"]
    assert tables and all(values["tabindex"] == "0" and values["aria-label"] for values in tables)
    charts = [values for name, values in page.elements if name == "svg" and "aria-hidden" not in values]
    assert len(charts) == 2 * 5 and all(values["role"] == "img" for values in charts)
    assert any("all, 1e-4, 4000 0.8" in str(values["aria-label"]) for values in charts)


def test_no_section_is_empty(files: dict[str, str]) -> None:
    """In Markdown, which has no charts, a section of charts alone is left out."""
    assert "Learning curves</h2>" in files["report.html"] and "Learning curves" not in files["report.md"]
    assert not re.search(r"## [^\n]*\n\s*(##|$)", files["report.md"])


def test_validation_is_kept_apart_and_the_rule_is_named(files: dict[str, str]) -> None:
    test, validation = (files["report.md"].index(f"## Results on {split}") for split in ("test", "validation"))
    assert test < validation
    assert "validation/accuracy" not in files["report.md"][test:validation]
    assert "Selection: checkpoint and learning rate by validation/accuracy." in files["report.md"]


def test_what_comes_from_runs_is_escaped(tmp_path: Path) -> None:
    trials = [trial(HOSTILE, s, metrics={"test/accuracy": 0.8 + s / 99}, changes={"a": HOSTILE}) for s in range(3)]
    trials += [
        trial("=cmd|'/c calc'!A0", s, metrics={"test/accuracy": 0.7}, factors={HOSTILE: HOSTILE}) for s in range(3)
    ]
    trials += [trial("broken", 0, state="failed", error=HOSTILE.replace("\n", " "))]
    names = facts(
        name=HOSTILE, base=HOSTILE, baseline=HOSTILE, selection=HOSTILE, versions={HOSTILE: HOSTILE}, dirty=True
    )
    written = {file.name: file.read_text() for file in write(analyse(names, trials), tmp_path)}
    page = Page(written["report.html"])
    assert page.open == [] and "script" not in [name for name, _ in page.elements]
    assert "<script>alert(1)</script>" in "".join(page.texts) and "\x1b" not in written["report.html"]
    tokens = MarkdownIt("commonmark").enable("table").parse(written["report.md"])
    assert not [t for token in tokens for t in token.children or () if t.type == "html_inline"]
    assert not re.search(r"(?<!\\)\\input|(?<!\\)%(?! Needs)|(?<!\\)_", written["report.tex"])
    for name, content in written.items():
        if name.endswith(".csv"):
            cells = [cell for row in csv.reader(content.splitlines()) for cell in row]
            assert not [cell for cell in cells if cell.startswith(FORMULA) and not re.fullmatch(r"-?[\d.e+-]+", cell)]


def test_findings_are_those_of_corrected_tests_in_the_metrics_direction() -> None:
    values = {"base": [0.8, 0.81, 0.79, 0.8], "up": [0.9, 0.91, 0.9, 0.89], "near": [0.82, 0.825, 0.82, 0.81]}
    trials = [
        trial(arm, seed, metrics={"test/accuracy": value, "test/loss": value})
        for arm, found in {**values, **{f"same {i}": values["base"] for i in range(9)}}.items()
        for seed, value in enumerate(found)
    ]
    study = analyse(facts(baseline="base"), trials)
    near = study.differences("test/accuracy")["near"]
    assert near.p < 0.05 < near.adjusted_p
    for metric, word in (("test/accuracy", "better"), ("test/loss", "worse")):
        found = {row[0].text: row[4].text for row in results(study, metric).rows}
        assert (found["base"], found["up"], found["near"], found["same 0"]) == (
            "–",
            word,
            "inconclusive",
            "inconclusive",
        )


def test_latex_escapes() -> None:
    assert latex("[1] 50 % of a_b & {c} \\d ± −1") == r"{[}1{]} 50 \% of a\_b \& \{c\} \textbackslash{}d $\pm$ $-$1"


def test_few_trials_make_a_report() -> None:
    """One arm, one seed, no factors, no validation, no run directory: still a page, with warnings."""
    document = report(analyse(facts(baseline="a"), [trial("a", 0, metrics={"test/accuracy": 0.5})]))
    assert Page(to_html(document)).open == []
    assert [section.title for section in document.sections][:2] == ["Warnings", "Results on test"]
    unfinished = report(analyse(facts(baseline="a"), [trial("a", 0, state="waiting")]))
    assert "–" in to_csv(next(unfinished.tables())) or Page(to_html(unfinished)).open == []


def test_charts_say_which_arms_they_leave_out() -> None:
    trials = [trial(f"arm {i}", 0, metrics={"test/accuracy": i / 99}) for i in range(60)]
    study = analyse(facts(baseline="arm 0"), [*trials, trial("arm 60", 0, state="failed")])
    chart = means(study, "test/accuracy")
    assert chart is not None and "Shown: 40 of 61 arms, the baseline and the best by test/accuracy." in chart.caption
    assert ">arm 59<" in chart.wide and ">arm 0<" in chart.wide and ">arm 20<" not in chart.wide
    chart = means(
        analyse(facts(baseline="arm 0"), [trials[0], trials[1], trial("lost", 0, state="failed")]), "test/accuracy"
    )
    assert chart is not None and chart.caption.endswith(
        "the square is the baseline. Not shown, because they have no values: 1."
    )


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colors_have_contrast(files: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 for texts, 3 for graphics, on light and dark ground and on paper."""
    schemes = re.findall(r":root \{(.*?)\}", files["report.html"], re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colors = {
            n: c if len(c) == 7 else "#" + "".join(2 * d for d in c[1:])
            for n, c in re.findall(r"--([\w-]+): (#\w+)", scheme)
        }
        ground = _luminance(colors["ground"])
        for name, least in {"text": 7, "soft": 4.5, "link": 4.5, **{f"c{i}": 3 for i in range(1, 8)}}.items():
            pair = sorted((_luminance(colors[name]), ground))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (name, colors[name])


@pytest.mark.long
def test_10_000_trials_are_written_in_5_seconds(tmp_path: Path) -> None:
    """500 arms of 20 seeds, each with a run directory; the time is that of a process that has imported everything."""
    trials = grid(20, tmp_path / "runs")
    many = [
        dataclasses.replace(t, arm=f"{t.arm}, {part}", factors={**t.factors, "part": str(part)})
        for part in range(28) for t in trials
    ][:10_000]  # fmt: skip
    start = time.perf_counter()
    files = write(analyse(facts(baseline="all, 1e-4, 4000, 0"), many), tmp_path / "out")
    assert time.perf_counter() - start < 5
    assert files[0].stat().st_size < 5 * 2**20
