"""Every hostile case ends in one sentence, in little memory and time, and nothing of it is executed."""

import sys
from pathlib import Path

import pytest

from tests.hostile.cases import CASES, Case
from tests.hostile.limits import BYTES, watched
from tests.hostile.place import CANARY, Place
from tests.hostile.run import faults, outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, and /proc, are Linux's"),
]
PATIENCE = 120  # seconds, where a machine is shared; `python -m tests.hostile.run` allows 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("hostile"))


def marks(number: int, case: Case) -> list[pytest.MarkDecorator]:
    """The quick cases belong to every run of the tests, a third of the others to the long ones."""
    return [] if case.quick else [pytest.mark.faults if number % 3 else pytest.mark.long]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=marks(number, case)) for number, case in enumerate(CASES)]
)
def test_hostile(case: Case, place: Place) -> None:
    arguments, found, wrong = outcome(case, place, PATIENCE)
    assert not wrong, (arguments, found)


def test_what_the_harness_sees(tmp_path: Path) -> None:
    """A trace, too much time and too much memory are seen, or none of the cases could fail."""
    place = Place(tmp_path).begin("case")
    scripts = {
        "imports": ("import evil", 20),
        "hangs": ("import time; time.sleep(60)", 1),
        "takes": (f"import time; held = bytearray({3 * BYTES // 2}); time.sleep(60)", 20),
        "raises": ("raise ValueError('tlx: 1')", 20),
    }
    seen = {}
    for name, (text, seconds) in scripts.items():
        (place.here / f"{name}.py").write_text(text)
        found = watched([str(place.here / f"{name}.py")], place.here, seconds)
        seen[name] = faults(Case(name, lambda place: [], None, True), found, place)
        (place.here / CANARY).unlink(missing_ok=True)
    ended = "it was ended for its time or memory"
    assert seen == {
        "imports": ["something was executed or imported"],
        "hangs": [ended],
        "takes": [ended, "more than 2 GB"],
        "raises": ["a traceback", "no sentence of tlx"],
    }
