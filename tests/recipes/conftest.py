"""A tiny checkpoint and a task, once for the tests of a file."""

from pathlib import Path
from typing import Any

import pytest

from tests import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_checkpoint(folder / "checkpoint")
    tiny.write_reviews(folder / "reviews.csv", 300)
    return folder


@pytest.fixture
def config(place: Path) -> Any:
    return tiny.config(place / "checkpoint", place / "reviews.csv")
