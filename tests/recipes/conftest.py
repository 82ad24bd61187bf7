"""A tiny checkpoint and a task, once for the tests of a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.recipes.several import write_task_files
from tlx.data import plan


@pytest.fixture(autouse=True, scope="package")
def one_length() -> Iterator[None]:
    """Pads every batch to the longest text, so that a run compiles one shape.

    Length buckets have their own tests, and the runs of tests/cli and test_resume.py that are processes use them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "LENGTH_BUCKETS", (16,))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_checkpoint(folder / "checkpoint")
    tiny.write_reviews(folder / "reviews.csv", 300)
    return folder


@pytest.fixture(scope="module")
def task_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, reviews with two labels, and a set of its own with a third."""
    folder = tmp_path_factory.mktemp("tasks")
    write_task_files(folder)
    return folder


@pytest.fixture
def config(place: Path) -> Any:
    return tiny.config(place / "checkpoint", place / "reviews.csv")
