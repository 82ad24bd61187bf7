"""The best parameters are not evaluated again on the validation split if the last evaluation was theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.recipes import finetune, job


@pytest.mark.long
@pytest.mark.parametrize("best_is_last", [True, False])
def test_validation_is_predicted_once_more_only_if_needed(
    best_is_last: bool, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.train.epochs, config.train.evaluate_every, config.train.monitor = 2.0, 1.0, "validation/loss"
    original_predict, original_evaluate = job.predict, job.Job.evaluate
    sizes: list[int] = []
    sign = -1 if best_is_last else 1

    def predict(*given: Any) -> Any:
        sizes.append(len(given[2]))
        return original_predict(*given)

    def evaluate(self: job.Job, *given: Any) -> dict[str, float]:
        return {**original_evaluate(self, *given), "validation/loss": float(sign * len(sizes))}

    monkeypatch.setattr(job, "predict", predict)
    monkeypatch.setattr(job.Job, "evaluate", evaluate)
    made = finetune.build(config, tmp_path / "run")
    summary = made.run(quiet=True)
    monkeypatch.undo()
    total = made.schedule.total
    assert summary["selection"].startswith(f"step {total if best_is_last else total // 2} of {total}:")
    validation = made.tasks["default"].splits["validation"]
    assert sizes.count(len(validation)) == (2 if best_is_last else 3)
    with np.load(tmp_path / "run" / "predictions" / "validation.npz") as found:
        np.testing.assert_array_equal(found["predictions"], made.predictions(made.best(), "validation"))
        np.testing.assert_array_equal(found["example_id"], validation.example_id)
    assert summary["metrics"]["validation/loss"] == made.evaluate(made.best(), "validation")["validation/loss"]
