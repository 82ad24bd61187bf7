"""What a reader of a report must know before using its numbers: wrong uses of a study, one sentence for each."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tlx.errors import TlxError, listed
from tlx.files.strict_json import read_json
from tlx.studies.analysis import Analysis, ArmTrials, split_of
from tlx.studies.gains import FIELD
from tlx.studies.statistics import FEWEST_PAIRS

MOST_READ = 500  # run directories whose data is looked at, of all arms alike
FEWEST_FOR_BOOTSTRAP = 10


def warnings(study: Analysis) -> list[str]:
    """Returns the sentences, the gravest first."""
    return [sentence for check in CHECKS for sentence in check(study)]


def _selected_on_test(study: Analysis) -> Iterator[str]:
    if "test/" in study.facts.selection:
        yield (
            f"Test was used for selection ({study.facts.selection}): the results on test are too good. "
            "Select on validation."
        )
    elif split_of(study.ranking) != "validation" and split_of(study.main) == "test":
        yield "The trials record no metric on validation: where arms are ranked or left out, this is done on test."


def _same_sets(study: Analysis) -> Iterator[str]:
    """Compares the digests of the runs' data, as far as the runs can be read."""
    by_arm = [[trial.workdir for trial in arm.complete if trial.workdir] for arm in study.arms]
    folders = [folder for row in itertools.zip_longest(*by_arm) for folder in row if folder][:MOST_READ]
    digests, shared = [], 0  # of each run's tasks
    for folder in folders:
        try:
            written = read_json(Path(folder) / "config.json", "config of a run")
        except TlxError:
            continue  # removed, or no run of tlx
        data, alone = written.get("data", {}), written.get("config", {}).get(FIELD) or ""
        for task, facts in (data.get("tasks") or {alone: data}).items():
            digests.append((task, facts.get("sha256", {})))
            shared = max([shared, *facts.get("also_in_train", {}).values()])
    if any(found.get("test") and found.get("test") == found.get("validation") for _, found in digests):
        yield "Validation and test are the same set: the results on test are selected on test, and are too good."
    if shared:
        yield f"Up to {shared} examples of validation or test are also in train."
    tests = {(task, found["test"]) for task, found in digests if "test" in found}
    if len(tests) > len({task for task, _ in tests}):
        yield "The runs have different test sets: their results cannot be compared."


def _failed(study: Analysis) -> Iterator[str]:
    if failed := [arm for arm in study.arms if arm.failed]:
        count = sum(len(arm.failed) for arm in failed)
        yield f"{_count(count, 'trial')} failed and {_are(count)} in no mean: {_names(failed)}."


def _unfinished(study: Analysis) -> Iterator[str]:
    if open_arms := [arm for arm in study.arms if arm.unfinished]:
        count = sum(len(arm.unfinished) for arm in open_arms)
        yield f"{_count(count, 'trial')} {_are(count)} not finished: {_names(open_arms)}. The numbers will change."


def _without_metric(study: Analysis) -> Iterator[str]:
    for metric in study.metrics:
        without = [arm for arm in study.arms if arm.has(metric) and len(arm.values(metric)) < len(arm.complete)]
        if without:
            yield f"Finished trials have no finite value of {metric}, and are left out of it: {_names(without)}."


def _few_seeds(study: Analysis) -> Iterator[str]:
    if one := [arm for arm in study.arms if len(arm.complete) == 1]:
        yield f"One seed has no interval and cannot be tested: {_names(one)}."
    if two := [arm for arm in study.arms if 1 < len(arm.complete) < FEWEST_PAIRS]:
        yield f"Fewer than {FEWEST_PAIRS} seeds are not tested: {_names(two)}."
    if study.method == "bootstrap":
        few = [arm for arm in study.arms if 1 < len(arm.complete) < FEWEST_FOR_BOOTSTRAP]
        if few:
            yield f"Bootstrap intervals of fewer than {FEWEST_FOR_BOOTSTRAP} seeds are too narrow: {_names(few)}."


def _unpaired(study: Analysis) -> Iterator[str]:
    seeds = {trial.seed for trial in study.baseline.complete}
    if other := [arm for arm in study.arms if arm.complete and {trial.seed for trial in arm.complete} != seeds]:
        yield f"Seeds differ from the baseline's; only shared seeds are compared: {_names(other)}."


def _repeated(study: Analysis) -> Iterator[str]:
    repeated = [arm for arm in study.arms if len(arm.complete) < sum(trial.state == "complete" for trial in arm.trials)]
    if repeated:
        yield f"Several trials have the same arm and seed; the last counts: {_names(repeated)}."


def _no_variation(study: Analysis) -> Iterator[str]:
    constant = [arm for arm in study.arms if len(arm.complete) > 1 and len(set(arm.values(study.main).values())) == 1]
    if constant:
        yield (
            f"All seeds have the same {study.main}, so that they are no repetitions; the seed may not reach the run, "
            f"or the model predicts one class for all examples: {_names(constant)}."
        )


def _budgets(study: Analysis) -> Iterator[str]:
    budgets: dict[str, list[ArmTrials]] = {}
    for arm in study.arms:
        known = [trial.budget for trial in arm.trials if trial.budget]  # a command tells none
        for budget in sorted({json.dumps(budget, sort_keys=True, default=str) for budget in known}):
            budgets.setdefault(budget, []).append(arm)
    if len(budgets) > 1:
        parts = "; ".join(f"{budget_text(json.loads(budget))}: {_names(arms, 3)}" for budget, arms in budgets.items())
        yield f"Arms have different budgets, so that differences may be those of the budget. {parts}."


def _code(study: Analysis) -> Iterator[str]:
    if study.facts.dirty:
        yield "The code had changes that are in no revision (a dirty tree): the results cannot be reproduced from it."
    if study.facts.revision is None:
        yield "The revision of the code is unknown."
    elif "," in study.facts.revision:
        yield f"The runs were made by several revisions of the code: {study.facts.revision}."


CHECKS: tuple[Callable[[Analysis], Iterable[str]], ...] = (
    _selected_on_test, _same_sets, _failed, _unfinished, _without_metric, _few_seeds, _no_variation, _unpaired,
    _repeated, _budgets, _code,
)  # fmt: skip


def budget_text(budget: object) -> str:
    """Returns a budget in words, such as "epochs 3, tuning trials 8"."""
    if isinstance(budget, dict):
        return ", ".join(f"{name} {value}" for name, value in budget.items()) or "–"
    return "–" if budget is None else str(budget)


def _names(arms: Iterable[ArmTrials], most: int = 6) -> str:
    return listed([f"“{arm.name}”" for arm in arms], most)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
