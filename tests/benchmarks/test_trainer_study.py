"""The study's statistics against scipy and by simulation, its rows, and that it goes on where it was stopped."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "trainer"))

import compare
import rows
import study


@pytest.mark.parametrize("sizes", [(5, 5), (3, 9), (2, 2)])
def test_two_samples_are_welchs(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(80, 3, sizes[0]), random.normal(78, 0.5, sizes[1])
    found = compare.interval((1, a), (-1, b))
    theirs = stats.ttest_ind(a, b, equal_var=False)
    ends = theirs.confidence_interval(0.95)
    np.testing.assert_allclose(
        (found.mean, found.low, found.high, found.freedom), (a.mean() - b.mean(), ends.low, ends.high, theirs.df)
    )


def test_one_sample_is_students() -> None:
    values = np.random.default_rng(1).normal(2, 3, 7)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = compare.interval((1, values))
    np.testing.assert_allclose((found.low, found.high, found.freedom), (*ends, 6))


def test_the_mean_over_tasks_is_covered_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    truth, spread = np.array([1.0, -2.0, 0.5]), np.array([[0.5, 2.0], [3.0, 0.2], [1.0, 1.0]])
    covered = 0
    for _ in range(1000):
        scores = {
            str(task): {
                "tlx": random.normal(50 + truth[task], spread[task, 0], 5),
                "trainer": random.normal(50, spread[task, 1], 5),
            }
            for task in range(3)
        }
        mean = compare.differences(scores)[1]
        covered += mean.low <= truth.mean() <= mean.high
    assert 0.93 < covered / 1000 < 0.98


def test_no_variance_is_no_width() -> None:
    assert compare.interval((1, [3.0, 3.0]), (-1, [2.0, 2.0])) == compare.Interval(1.0, 1.0, 1.0, float("inf"))


@pytest.mark.parametrize(
    ("tlx", "behind"),
    [([80, 81, 82], 0), ([79.2, 80.6, 81.9], 0), ([79.0, 80.0, 81.0], 1), ([60, 61, 62], 3)],
)
def test_verdict(tlx: list[float], behind: int) -> None:
    scores = {task: {"tlx": tlx, "trainer": [80, 81, 82]} for task in ("a", "b")}
    assert len(compare.failures(*compare.differences(scores))) == behind


def test_scores() -> None:
    predictions = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert compare.score("accuracy", ["b", "a", "a"], predictions, ["a", "b"], None) == pytest.approx(2 / 3)
    assert compare.score("spearman", ["5", "1.5", "3"], predictions[:, 1:], [], None) == pytest.approx(1)
    assert compare.score("spearman", ["5", "1.5", "3"], np.ones((3, 1)), [], None) == 0
    gold = [["B-x", "I-x", "O"], ["B-y", "O", "B-x"]]
    tags = ["B-x", "I-x", "B-y", "O"]
    said = np.eye(4)[[0, 1, 3, 0, 3]]  # the second sentence's last word was cut off
    # One of three entities right, and one that is not there.
    assert compare.score("entity_f1", gold, said, tags, np.array([3, 2])) == pytest.approx(2 / 5)


def test_rows_leave_out_what_stands_in_test_and_keep_every_label(tmp_path: Path) -> None:
    folder = tmp_path / "mrpc"
    folder.mkdir()
    train = [(f"one {i}", f'two, "{i}"', "1" if i == 37 else "0") for i in range(60)]
    test = [('Two,  "3"', "one 3", "1"), ("another", "text", "0")]
    for part, lines in (("train", train), ("dev", test)):
        columns = dict(zip(("sentence1", "sentence2", "label"), map(list, zip(*lines, strict=True)), strict=True))
        rows.write_csv(folder / f"{part}.csv", columns)
    task = rows.TASKS["mrpc"]
    found = rows.prepare(task, tmp_path, 20)
    assert found.sizes == {"train": 20, "validation": 2, "test": 2}
    assert found.dropped == 1
    assert found.labels == ("0", "1")
    everything = rows.prepare(task, tmp_path, None)
    assert sum(everything.sizes.values()) == 61
    assert not set(rows.keys(everything.splits["train"])) & set(rows.keys(everything.splits["validation"]))


def test_conll_comes_back(tmp_path: Path) -> None:
    columns = {"text": [["a", "#b"], ["c"]], "label": [["B-x", "O"], ["O"]]}
    rows.write_conll(tmp_path / "a.conll", columns)
    assert rows.read_conll(tmp_path / "a.conll") == columns


def test_the_order_is_balanced() -> None:
    order = list(study.plan(2, ["a", "b"]))
    assert order[:4] == [(0, "a", "tlx"), (0, "a", "trainer"), (0, "b", "tlx"), (0, "b", "trainer")]
    assert [side for _, _, side in order[4:]] == ["trainer", "tlx"] * 2


def test_a_study_goes_on_and_refuses_other_settings(tmp_path: Path) -> None:
    study.check_same(tmp_path, {"recipe": 1, "a": ["x", 2]})
    study.check_same(tmp_path, {"recipe": 1, "b": ["y", 2]})
    assert set(json.loads((tmp_path / "study.json").read_text())) == {"recipe", "a", "b"}
    with pytest.raises(study.TlxError, match="other recipe"):
        study.check_same(tmp_path, {"recipe": 2})


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    for seed, task, side in study.plan(2, ["sst2"]):
        run = {"score": 0.8 + 0.01 * seed, "wall_seconds": 3.0, "seconds": 2.0, "versions": {}}
        study.record_of(tmp_path, task, seed, side).write_text(json.dumps(run))
    columns = {"text": ["a"], "label": ["0"]}
    found = {"sst2": rows.Rows(dict.fromkeys(("train", "validation", "test"), columns), ("0",), 0)}
    assert study.report(tmp_path, {"sst2": rows.TASKS["sst2"]}, found, 2) == 0
    assert "| sst2 | accuracy | 1 / 1 | 80.5 | 80.5 | +0.0 (-3.0 to +3.0) |" in (tmp_path / "table.md").read_text()
    assert "NOT BEHIND" in capsys.readouterr().out
