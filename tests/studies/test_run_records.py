"""Reports of plain run directories."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runs.made import logits, make_run
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.studies.analysis import analyse
from tlx.studies.run_records import read_runs

LABELS = np.arange(100) % 2


def run(folder: Path, right: int, **fields: Any) -> Path:
    return make_run(folder, logits(np.arange(100) < right, LABELS), LABELS, **fields)


def test_runs_that_differ_in_the_seed_are_one_arm(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / f"{rate}-{seed}", right + seed, seed=seed, optimizer__learning_rate=rate)
        for rate, right in ((1e-3, 70), (1e-4, 75)) for seed in range(3)
    ]  # fmt: skip
    runs.append(run(tmp_path / "open", 1, seed=3, optimizer__learning_rate=1e-4, finished=False, train__keep=4))
    failed = run(tmp_path / "failed", 1, seed=4, optimizer__learning_rate=1e-4, finished=False)
    (failed / "traceback.txt").write_text("Traceback\nValueError: no\n")
    facts, records = read_runs([*runs, failed])
    study = analyse(facts, records)
    assert [arm.name for arm in study.arms] == ["optimizer.learning_rate=0.001", "optimizer.learning_rate=0.0001"]
    baseline, other = study.arms
    assert list(baseline.values("test/accuracy")) == [0, 1, 2] and other.values("test/accuracy")[2] == 0.77
    assert [trial.seed for trial in other.unfinished] == [3] and other.failed[0].error == "Traceback\nValueError: no\n"
    assert study.differences("test/accuracy")[other.name].interval.mean == pytest.approx(0.05)
    assert (study.main, study.ranking) == ("test/accuracy", "validation/accuracy")
    assert facts.selection == "the checkpoint of each run by validation/accuracy"
    assert (baseline.complete[0].seconds, baseline.complete[0].trainable_parameters) == (12.5, 77)


def test_metrics_by_name(tmp_path: Path) -> None:
    facts, _ = read_runs([run(tmp_path / "a", 70)], ["loss", "macro_f1"])
    assert facts.metrics == {"loss": "minimize", "macro_f1": "maximize"}
    with pytest.raises(TlxError, match="no run has the metric auc; the metrics are loss, accuracy"):
        read_runs([tmp_path / "a"], ["auc"])


def test_revisions_and_versions_that_differ_are_all_told(tmp_path: Path) -> None:
    facts, _ = read_runs([run(tmp_path / "a", 70, revision="1a"), run(tmp_path / "b", 71, revision="2b-dirty", seed=1)])
    assert (facts.revision, facts.dirty) == ("1a, 2b-dirty", True)


def test_long_values_do_not_merge_arms(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(i), 70, data__train=f"csv:{'x' * 100}{i}") for i in range(3)]
    _, records = read_runs(runs)
    assert len({record.arm for record in records}) == 3


def test_what_is_no_set_of_runs(tmp_path: Path) -> None:
    first = run(tmp_path / "a", 70)
    with pytest.raises(TlxError, match="given more than once"):
        read_runs([first, first])
    targets = np.zeros((4, 1), np.float32)
    other = make_run(tmp_path / "b", targets + np.arange(4)[:, None], targets, head=Head("regression", 1))
    with pytest.raises(TlxError, match="heads of several kinds"):
        read_runs([first, other])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [run(tmp_path / f"{e}-{s}", 70 + s + int(e), seed=s, train__epochs=e) for e in (1.0, 9.0) for s in range(3)]
    main(["report", *map(str, runs)])
    said = capsys.readouterr().out
    assert "warning: Arms have different budgets" in said
    assert said.splitlines()[-1] == "report/report.html: 2 arms, 6 trials; the same tables in 8 other files"
    assert "train.epochs=9.0" in (tmp_path / "report" / "report.html").read_text()
    main(["report", *map(str, runs), "--to", "other", "--baseline", "train.epochs=9.0", "--interval", "bootstrap"])
    assert "percentile bootstrap" in (tmp_path / "other" / "report.md").read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (["/no/folder"], "/no/folder is no folder"), (["."], "neither a run directory nor that of a study"),
])  # fmt: skip
def test_bad_input(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", *arguments])
    assert message in capsys.readouterr().err
