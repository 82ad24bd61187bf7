"""Which runs are the same: by resolved config and data. A change of the code is told, and runs nothing again."""

from pathlib import Path

import pytest

from tests import tiny
from tests.studies import made
from tlx.errors import TlxError
from tlx.studies.analysis import analyse
from tlx.studies.conduct import conduct
from tlx.studies.misuse import warnings
from tlx.studies.plan import Plan, open_plan
from tlx.studies.queue import Queue
from tlx.studies.records import read_study

RATE = "optimizer.learning_rate"


def of_csv(folder: Path, rates: tuple[float, ...] = (1e-3, 3e-3), **more: object) -> Plan:
    folder.mkdir(exist_ok=True)
    (folder / "config.py").write_text(
        "from tlx.recipes import defaults\ndef get_config():\n    config = defaults.finetune()\n"
        f"    config.data.train = 'csv:{folder / 'reviews.csv'}'\n    return config\n"
    )
    levels = {f"rate {rate}": {RATE: rate} for rate in rates}
    return made.write_study(folder, **({"config": "config.py", "factors": {"rate": levels}, "seeds": 2} | more))  # type: ignore[arg-type]


def keys(plan: Plan) -> dict[tuple[str, int], str]:
    return {(run.arm.name, run.seed): run.key for run in plan.runs}


def test_a_run_is_known_by_its_config_and_its_data(tmp_path: Path) -> None:
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", 20)
    first = keys(of_csv(tmp_path))
    assert len(set(first.values())) == 4
    more = keys(of_csv(tmp_path, (1e-3, 3e-3, 1e-2), seeds=3))
    assert first.items() < more.items() and len(set(more.values())) == 9
    said_otherwise = of_csv(tmp_path, (), factors={"x": {"default": {}, "same": {RATE: 1e-3}}}, changes={RATE: 1e-3})
    assert len(set(keys(said_otherwise).values())) == 2 and set(keys(said_otherwise).values()) < set(first.values())
    tiny.write_reviews(reviews, 20, seed=1)
    with pytest.raises(TlxError, match="the data have changed"):
        open_plan(tmp_path)
    assert not set(keys(of_csv(tmp_path)).values()) & set(first.values())


def test_a_run_is_known_by_the_data_of_its_own_arm(tmp_path: Path) -> None:
    """An arm may read another file than the base config does."""
    files = [tiny.write_reviews(tmp_path / f"{name}.csv", 20) for name in ("reviews", "more")]
    levels = {"all": {}, "more": {"data.train": f"csv:{files[1]}"}}
    before = keys(of_csv(tmp_path, (), factors={"data": levels}, seeds=1))
    tiny.write_reviews(files[1], 30)
    after = keys(of_csv(tmp_path, (), factors={"data": levels}, seeds=1))
    assert before["all", 0] == after["all", 0] and before["more", 0] != after["more", 0]


def test_missing_data_is_told_before_anything_runs(tmp_path: Path) -> None:
    """Also that of one arm. The plan alone is made without data."""
    tiny.write_reviews(tmp_path / "reviews.csv", 20)
    missing = f"csv:{tmp_path / 'more.csv'}"
    plan = of_csv(tmp_path, (), factors={"data": {"all": {}, "more": {"data.train": missing}}}, seeds=1)
    assert len(plan.runs) == 2
    with pytest.raises(TlxError, match=r"more\.csv': there is no file"):
        conduct(plan.spec, tmp_path)
    assert not (tmp_path / "workers").exists()


def test_fields_of_a_method(tmp_path: Path) -> None:
    """A study sets them in the config; one that the method lacks is an error before anything runs."""
    tiny.write_reviews(tmp_path / "reviews.csv", 20)
    tiny.write_reviews(tmp_path / "target.csv", 20, seed=1)
    changes = {"data.target": f"csv:{tmp_path / 'target.csv'}"}
    levels = {"DANN": {"method.name": "dann", "method.trade_off": 0.5}, "fine-tuning": {}}
    plan = of_csv(tmp_path, (), factors={"method": levels}, changes=changes)
    method = plan.config_of(plan.runs[0]).method
    assert (method.name, method.trade_off) == ("dann", 0.5)
    tiny.write_reviews(tmp_path / "target.csv", 20, seed=2)
    after = keys(of_csv(tmp_path, (), factors={"method": levels}, changes=changes))
    assert not {*after.values()} & {*keys(plan).values()}  # the target is part of the data
    with pytest.raises(TlxError, match=r"config\.method\.tradeoff is set, but the method dann has"):
        of_csv(tmp_path, (), factors={"method": {"DANN": {"method.name": "dann", "method.tradeoff": 0.5}}})


def test_a_changed_revision_runs_nothing_again_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made.of_commands(tmp_path, arms=2, seeds=2)
    queue = Queue(plan)
    for revision in ("aaaa", "aaaa", "aaaa", "bbbb"):
        taken = queue.take()
        assert taken is not None
        queue.finish(taken, {"metrics": {made.METRIC: 0.5}, "revision": revision})
    monkeypatch.setattr("tlx.studies.plan.revision", lambda: "cccc")
    again = Queue(made.of_commands(tmp_path, arms=2, seeds=2))
    assert again.take() is None and again.unfinished() == 0
    facts, records = read_study(tmp_path)
    assert facts.revision == "aaaa, bbbb"
    told = "The runs were made by several revisions of the code: aaaa, bbbb."
    assert told in warnings(analyse(facts, records))
    made.of_commands(tmp_path, arms=1, seeds=2)  # without the arm that has the run of bbbb
    facts, records = read_study(tmp_path)
    assert facts.revision == "aaaa" and told not in warnings(analyse(facts, records))
