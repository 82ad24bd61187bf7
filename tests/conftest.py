"""What tests of every room use."""

import os
from collections.abc import Iterator

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def full_precision() -> Iterator[None]:
    """float32 products in float32, which an accelerator does not do unasked."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def x64(full_precision: None) -> Iterator[None]:
    """float64 for the length of a test."""
    with jax.enable_x64(True):
        yield
