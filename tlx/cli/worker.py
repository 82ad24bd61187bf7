"""`tlx worker STUDY`: takes trials of a study and runs them, until none is left."""

import argparse
import os
from pathlib import Path

from tlx.cli.launch import launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds STUDY."""
    parser.add_argument("study", type=Path, help="the directory of a study, which experiments/ablate.py has made")


def main(arguments: argparse.Namespace) -> None:
    """Runs trials; a signal ends the worker with exit code 75 after it saved the trial."""
    if cores := os.environ.get("TLX_CORES"):  # the worker's share; set before JAX starts its threads
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    with launched():
        import jax

        from tlx.studies.worker import work

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # the next trial needs small programs too

        ended = work(arguments.study)
        print(f"{ended} trials of this worker ended; no run of the study is left.")
