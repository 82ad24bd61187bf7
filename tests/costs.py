"""What each test and file costs: `make test ARGS='-p tests.costs'` tells CPU seconds, and the programs of XLA.

Programs in the compilation cache count as found, all others as compiled. CPU seconds contain those of child processes
that have ended; programs of child processes are not counted.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

NOW: Counter[str] = Counter()  # since this process began
TESTS: dict[str, Counter[str]] = {}  # what each test cost, in whichever process
COLUMNS = ("CPU s", "compiled", "found", "compile s", "tests")


def pytest_collection_finish() -> None:
    import jax  # late: tests/conftest.py says with which settings

    def took(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            NOW.update({"compiled": 1, "compile s": seconds})

    def happened(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            NOW.update({"found": 1, "compiled": -1})

    jax.monitoring.register_event_duration_secs_listener(took)
    jax.monitoring.register_event_listener(happened)


def _so_far() -> Counter[str]:
    return Counter({**NOW, "CPU s": sum(os.times()[:4])})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[BEFORE] = _so_far()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.when == "teardown":
        spent = _so_far()
        spent.subtract(item.stash[BEFORE])
        report.cost = {**spent, "tests": 1}  # travels from a worker of pytest-xdist with the report
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if hasattr(report, "cost"):
        TESTS[report.nodeid] = Counter(report.cost)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for name, cost in TESTS.items():
        files[name.partition("::")[0]].update(cost)
        files["all"].update(cost)
    for title, costs, most in (("costliest tests", TESTS, 50), ("costs", files, None)):
        terminalreporter.section(title)
        terminalreporter.line("  ".join(f"{column:>9}" for column in COLUMNS))
        for name, cost in sorted(costs.items(), key=lambda pair: -pair[1]["CPU s"])[:most]:
            terminalreporter.line("  ".join(f"{cost[column]:9.1f}" for column in COLUMNS) + f"  {name}")


BEFORE = pytest.StashKey[Counter[str]]()
