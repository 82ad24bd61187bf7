"""What a run compiles: one training step for runs that differ in rates and lengths, one forward pass for all of their
evaluations, and what the compiled step costs."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import tiny
from tests.recipes.costs import COMMAND, FILE, PACKED, PROGRAMS, SLACK, committed, measured, write_files
from tlx.parallel.layout import Layout
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow
CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")

# (FLOPs, bytes accessed, bytes of temporary memory) of one step by `train.accumulate`: what XLA's analysis says of the
# program that these tests compile, with the flags of tests/conftest.py. A loop's body is counted once. To make them
# anew after a change that is meant to cost, run the test: it prints what it finds.
COSTS = {
    "0.10.2": {1: (40_768_464, 20_287_636, 2_043_320), 2: (20_392_108, 11_677_111, 1_124_792)},
    "0.12.0.1": {1: (41_846_688, 20_342_234, 2_059_512), 2: (20_869_876, 11_728_877, 1_124_280)},
}
KERNEL = "heads/default/output/kernel"


@contextlib.contextmanager
def programs_in(folder: Path) -> Iterator[None]:
    """Keeps every program that is compiled in a folder of its own: a file each, which the function's name begins."""
    before = [getattr(jax.config, name) for name in CACHE]

    def cache(*values: Any) -> None:
        for name, value in zip(CACHE, values, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    cache(str(folder), 0.0)
    try:
        yield
    finally:
        cache(*before)


def two_runs(config: Any, folder: Path) -> tuple[list[finetune.Job], list[float], dict[str, int]]:
    """Two runs of one model on batches of one shape, trained and evaluated; how far each moved a kernel; and how many
    programs were compiled, by name.

    They differ in their learning rates (the run's and the group's), schedules, lengths and seeds.
    """
    jobs, moved = [], []
    config.train.epochs, config.train.evaluate_every, config.train.eval_batch_size = 1.0, 0.5, 25
    with programs_in(folder / "programs"):
        for index in range(2):
            job = finetune.build(config, folder / str(index))
            start = np.array(flatten(job.state.params)[KERNEL])  # the state is donated
            with Checkpoints(folder / str(index) / "checkpoints") as checkpoints:
                state, _ = job.fit(checkpoints, quiet=True)
            for split in job.tasks["default"].splits:
                job.evaluate(state.variables, split)
            jobs.append(job)
            moved.append(float(np.abs(flatten(state.params)[KERNEL] - start).max()))
            config.optimizer.learning_rate, config.optimizer.schedule, config.train.epochs = 1e-4, "cosine", 1.5
            config.optimizer.warmup_fraction, config.seed, config.params.groups.default.multiplier = 0.0, 1, 0.5
    names = [file.name.split("-")[0].removeprefix("jit_") for file in (folder / "programs").glob("*-cache")]
    return jobs, moved, Counter(names)


@pytest.fixture(scope="module")
def ran(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return two_runs(tiny.config(place / "checkpoint", place / "reviews.csv"), tmp_path_factory.mktemp("two"))


def test_runs_of_other_rates_and_lengths_compile_one_step(ran: Any) -> None:
    jobs, moved, compiled = ran
    assert jobs[0].schedule.total < jobs[1].schedule.total
    assert moved[0] > 5 * moved[1] > 0  # the second run's rate is a sixtieth of the first's
    assert compiled["train_step"] == 1


def test_evaluations_compile_one_forward_pass(ran: Any) -> None:
    """Those of two runs during training, and of all splits, whose last batches are partial."""
    jobs, _, compiled = ran
    for job in jobs:
        assert all(len(examples) % 25 for examples in job.tasks["default"].splits.values())
        assert job.forward._cache_size() == 1
    assert compiled["forward"] == 1


@pytest.mark.skipif(version("jax") not in COSTS, reason="figures of another version of XLA")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_a_step_costs(accumulate: int, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty texts of sixteen tokens on one device."""
    seen: list[Any] = []
    right = Layout.train_step

    def recorded(layout: Layout, step: Any, state: Any, constants: Any) -> Any:
        seen.append((right(layout, step, state, constants), state, constants))
        return seen[-1][0]

    monkeypatch.setattr(Layout, "train_step", recorded)
    config.train.accumulate, config.data.packing = accumulate, "off"
    job = finetune.build(config, tmp_path / "run")
    ((step, state, constants),) = seen
    batch = next(job.batches())
    assert batch["train"]["input_ids"].shape == (20, 16)
    program = step.lower(state, batch, *constants).compile()
    cost: Any = program.cost_analysis()
    found = (cost["flops"], cost["bytes accessed"], program.memory_analysis().temp_size_in_bytes)
    print(accumulate, [int(figure) for figure in found])
    assert found == pytest.approx(COSTS[version("jax")][accumulate], rel=SLACK)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("widths"))


@pytest.mark.skipif(version("jax") not in committed(), reason="figures of another version of XLA")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("text, full", "image, last 2", PACKED) else pytest.param(name, marks=pytest.mark.long)
        for name in PROGRAMS
    ],
)
def test_what_the_key_steps_cost(name: str, files: Path) -> None:
    """Not more than the committed figures; nor less, so that a gain is kept."""
    expected, found = committed()[version("jax")][name], measured(name, files)
    changed = [
        f"{figure} {found[figure]:,} instead of {value:,} ({found[figure] / max(value, 1) - 1:+.1%})"
        for figure, value in expected.items()
        if abs(found[figure] - value) > SLACK * value
    ]
    assert not changed, (
        f"{name}: {', '.join(changed)}; if that is meant, `{COMMAND}` writes {FILE.name} anew, with each version of "
        f"JAX that it has: {', '.join(committed())}"
    )
