"""Settings and fixtures for all tests."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

# In the background of a script Ctrl-C is ignored, and every process that a test starts would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Eight virtual devices, so that sharding is tested on any machine; fast compilation, because programs are small.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if version("jax").startswith("0.10."):  # an unknown flag ends the process; this one halves compile time
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
if "TLX_TESTS_COMPILED" not in os.environ:  # pytest's processes share compiled programs
    os.environ["TLX_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="tlx-tests-")
    atexit.register(shutil.rmtree, os.environ["TLX_TESTS_COMPILED"], ignore_errors=True)
os.environ.setdefault("TLX_KEEP_MEMORY", "0")  # pytest's processes would keep the most that any test needs
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["TLX_TESTS_COMPILED"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
import pytest  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402

SAVEFIG = Figure.savefig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs files with slow tests first, so that no worker starts one at the end."""
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
    """Computes float32 matrix products in float32; accelerators use a lower precision by default."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def x64(full_precision: None) -> Iterator[None]:
    """Enables float64 for one test."""
    with jax.enable_x64(True):
        yield
