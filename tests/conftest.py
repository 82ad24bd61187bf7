"""What tests of every room use."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the length of a test."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield
