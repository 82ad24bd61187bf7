"""The other Python, the one with torch."""

import os

import pytest


@pytest.fixture(scope="session")
def torch_python() -> str:
    """Its path, which `make interop` gives in TLX_INTEROP_PYTHON."""
    python = os.environ.get("TLX_INTEROP_PYTHON")
    if not python:
        pytest.skip("TLX_INTEROP_PYTHON names no Python with torch; run `make interop`")
    return python
