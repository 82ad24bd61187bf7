"""The study files of `configs/studies` and of the page for one's own CSV: they are read, and their arms are planned."""

import ast
import re
from pathlib import Path

import pytest

from tlx.studies.design import arms
from tlx.studies.plan import make_plan
from tlx.studies.study import load_study

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "studies").glob("*.py"))
SPECS = {  # file -> argument -> number of arms
    "adapt_digits": {"mnist-usps": 17, "usps-mnist": 17, "mnist-mnist_m": 17},
    "adapt_reviews": {"books-electronics": 8},
    "digits": {"": 4},
    "few_shot": {"cifar10-1": 8, "cifar10-0": 8},
    "freezing": {"count": 10, "steps": 10, "head": 3},
    "packing": {"": 2},
    "sst2_freezing": {"": 12},
    "strategies": {"sst2": 8, "mrpc": 8, "mnist_m": 8},
    "tasks": {"": 13},
    "trainer": {"sst2": 2, "mrpc": 2, "ag_news": 2, "stsb": 2, "wnut17": 2},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_read_and_says_its_command(file: Path) -> None:
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert f"python experiments/ablate.py --study=configs/studies/{file.name}" in said
    for argument, count in SPECS[file.stem].items():
        for full in (False, True):
            study, _ = load_study(f"{file}:{argument}" if argument else str(file), full)
            found = arms(study)
            assert len(found) == count
            for arm in found:
                scripts = [word for word in arm.command if word.endswith(".py")]
                assert all((ROOT / script).is_file() for script in scripts) and bool(scripts) == bool(arm.command)


def test_the_file_for_ones_own_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 30 lines; with a CSV file, all of its runs are planned, each with the config that it names."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert found is not None and len(found[1].splitlines()) <= 30
    (tmp_path / "configs" / "studies").mkdir(parents=True)
    (tmp_path / "configs" / "text_file.py").write_text((ROOT / "configs" / "text_file.py").read_text())
    (tmp_path / "configs" / "studies" / "mine.py").write_text(found[1])
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    monkeypatch.chdir(tmp_path)
    plan = make_plan("configs/studies/mine.py", tmp_path / "runs")
    assert len({run.key for run in plan.runs}) == len(plan.runs) == 30
    run = next(run for run in plan.runs if run.arm.name == "last 2 blocks, 1e-3" and run.seed == 4)
    config = plan.config_of(run)
    assert (config.params.trainable, config.optimizer.learning_rate, config.seed) == ("last:2", 1e-3, 4)
    assert (config.data.train, config.train.epochs) == ("csv:mine.csv", 1.0)
