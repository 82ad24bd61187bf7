"""Conducts a study on this machine: makes the plan, starts workers on the devices, and shows how far they are."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tlx.errors import SAVED, TlxError
from tlx.files.atomic import writable
from tlx.signals import Stop
from tlx.studies.crew import MEMORY, Crew, Place
from tlx.studies.plan import Plan, check_data, make_plan, write_plan
from tlx.studies.queue import Queue
from tlx.studies.records import TrialRecord, read_study
from tlx.studies.view import View


def conduct(
    spec: str, workdir: Path, *, full: bool = False, workers: int = 1, per_gpu: int = 0, storage: str | None = None,
    heartbeat: int = 20, retry_failed: bool = False,
) -> list[TrialRecord]:  # fmt: skip
    """Runs what is missing of a study. The same call goes on with a study that was stopped.

    Args:
      spec: the study file, `FILE.py[:ARGUMENT]`.
      workdir: the study's directory.
      full: whether to run the full form.
      workers: number of worker processes that share all devices; on a CPU each gets its share of the cores. 0: only
        the plan is made, for workers that are started elsewhere.
      per_gpu: number of worker processes on each GPU, in place of `workers`.
      storage: URL of Optuna's storage; None: SQLite in the directory.
      heartbeat: seconds between two heartbeats of a worker.
      retry_failed: whether failed runs are run again.

    Returns:
      A record for each run of the plan.

    Raises:
      TlxError: the study is invalid, a data file is missing, or all workers ended before the runs did.
      Stop: a signal; all workers have saved and ended.
    """
    with writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        plan = make_plan(spec, workdir, full, storage, heartbeat)
        write_plan(plan)
    queue = Queue(plan)
    if retry_failed:
        queue.retry_failed()
    places = _places(workers, per_gpu)
    if places and queue.unfinished():
        check_data(plan)
        _run(plan, queue, places)
    return read_study(plan.workdir)[1]


def _run(plan: Plan, queue: Queue, places: Sequence[Place]) -> None:
    """Starts the workers, watches them, and stops them at a signal."""
    with View(plan.study.name, plan.study.main, plan.study.metrics[plan.study.main]) as view:
        crew = Crew(plan, queue, places, view.say)
        try:
            crew.start()
            while crew.working():
                began = time.perf_counter()
                view.show(read_study(plan.workdir)[1])
                # Watching takes at most 1 % of a core, also if the study has thousands of trials.
                crew.wait(max(2.0, 100 * (time.perf_counter() - began)))
            view.show(read_study(plan.workdir)[1])
        except BaseException as error:
            crew.stop()
            if not isinstance(error, KeyboardInterrupt):
                raise
            number = error.number if isinstance(error, Stop) else signal.SIGINT
            raise Stop(number, f"with {queue.unfinished()} runs left") from None
    if left := queue.unfinished():
        if SAVED in crew.codes:
            raise Stop(signal.SIGTERM, f"with {left} runs left")
        raise TlxError(
            f"all workers ended with {left} runs left; {crew.last_words()}; their output is in {crew.folder}."
        )


def _places(workers: int, per_gpu: int) -> list[Place]:
    """The environment of each worker, which says which devices it has."""
    gpus = _gpus()
    if per_gpu:
        if not gpus:
            raise TlxError("--per_gpu places workers on GPUs, and this machine has none; use --workers.")
        return [{"CUDA_VISIBLE_DEVICES": gpu, **_memory(per_gpu)} for _ in range(per_gpu) for gpu in gpus]
    if gpus:
        return [_memory(workers)] * workers
    if workers < 2 or not hasattr(os, "sched_getaffinity"):
        return [{}] * workers
    cores = sorted(os.sched_getaffinity(0))
    return [
        {"TLX_CORES": ",".join(map(str, cores[index::workers] or [cores[index % len(cores)]]))}
        for index in range(workers)
    ]


def _memory(workers: int) -> Place:
    """JAX takes three quarters of a GPU's memory at once, unless it is told how much each of several workers has."""
    return {} if workers < 2 else {MEMORY[0]: f"{0.9 / workers:.3f}"}


def _gpus() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES has them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    return [str(index) for index, _ in enumerate(line for line in found.stdout.splitlines() if line.startswith("GPU "))]
