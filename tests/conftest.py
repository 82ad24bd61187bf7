"""What tests of every room use."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

# Eight devices, so that what is cut over devices is tested anywhere; quick compilation, for what runs for milliseconds.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if version("jax").startswith("0.10."):  # an XLA that does not know a flag ends the process; this one halves compilation
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
if "TLX_TESTS_COMPILED" not in os.environ:  # equal programs compile once, in whichever process of pytest's
    os.environ["TLX_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="tlx-tests-")
    atexit.register(shutil.rmtree, os.environ["TLX_TESTS_COMPILED"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["TLX_TESTS_COMPILED"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
import pytest  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402

SAVEFIG = Figure.savefig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def unrendered() -> Iterator[None]:
    """Figures are drawn up, but saved as a single pixel: rendering them takes longer than a tiny run's training."""

    def savefig(figure: Figure, file: Any, format: str = "png", **_: Any) -> None:
        Image.new("RGB", (1, 1)).save(file, format)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield


@pytest.fixture(scope="module")
def rendered() -> Iterator[None]:
    """Figures as they are, for a file that looks at them. A fixture that makes some asks for this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", SAVEFIG)
        yield


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
