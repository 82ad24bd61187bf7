"""Would the tests of the training path notice? Faults planted in it, each of which its test must see."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import test_compiled, test_methods
from tests.recipes.faults import FAULTS, SLOW, TESTS

# A part of them in every run of the tests; `make faults` plants the others.
SHARE = 4
SAMPLE = [name for name, fault in FAULTS.items() if fault.test not in SLOW][::SHARE]


def run(test: str, request: pytest.FixtureRequest) -> None:
    """A test within this one, with its fixtures."""
    function, given = TESTS[test]
    fixtures = [name for name in inspect.signature(function).parameters if name not in given]
    function(**given, **{name: request.getfixturevalue(name) for name in fixtures})


@pytest.fixture
def whole(config: Any, place: Path, tmp_path: Path) -> Any:
    job = test_methods.job_of(config, place, tmp_path / "whole")
    job.run(quiet=True)
    return job


@pytest.fixture
def ran(config: Any, tmp_path: Path) -> Any:
    return test_compiled.two_runs(config, tmp_path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.faults) for name in FAULTS]
)
def test_fault_is_seen(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError, match=f"(?s){fault.says}") as seen:
        run(fault.test, request)
    print(f"{name}: {seen.value}")


@pytest.mark.faults
@pytest.mark.parametrize("test", TESTS)
def test_without_fault_nothing_is_seen(test: str, request: pytest.FixtureRequest) -> None:
    run(test, request)
