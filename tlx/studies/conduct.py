"""Conducts a study on this machine: makes the plan, starts workers on the devices, and shows how far they are."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tlx.errors import SAVED, TlxError
from tlx.files.atomic import writable
from tlx.signals import Stop
from tlx.studies.plan import Plan, make_plan, write_plan
from tlx.studies.queue import Queue
from tlx.studies.records import TrialRecord, read_study
from tlx.studies.view import View

Worker = subprocess.Popen[bytes]


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
      TlxError: the study is invalid, or all workers ended before the runs did.
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
        _run(plan, queue, places)
    return read_study(plan.workdir)[1]


def _run(plan: Plan, queue: Queue, places: list[Mapping[str, str]]) -> None:
    """Starts the workers, watches them, and stops them at a signal."""
    running = [_start(plan, index, place) for index, place in enumerate(places)]
    try:
        with View(plan.study.name, plan.study.main, plan.study.metrics[plan.study.main]) as view:
            while any(worker.poll() is None for worker in running):
                view.show(read_study(plan.workdir)[1])
                _wait_for_one(running, 2.0)
            view.show(read_study(plan.workdir)[1])
    except KeyboardInterrupt as stop:
        for worker in running:
            if worker.poll() is None:
                worker.terminate()
        for worker in running:
            worker.wait()
        left = queue.unfinished()
        raise Stop(stop.number if isinstance(stop, Stop) else 2, f"with {left} runs left") from None
    if left := queue.unfinished():
        codes = Counter(worker.returncode for worker in running)
        logs = plan.workdir / "workers"
        if codes[SAVED]:
            raise Stop(15, f"with {left} runs left")
        raise TlxError(f"all workers ended with {left} runs left; {_last_words(logs)}; their output is in {logs}.")


def _start(plan: Plan, index: int, place: Mapping[str, str]) -> Worker:
    """Starts a worker process; its output goes to a file in `workers`."""
    folder = plan.workdir / "workers"
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "tlx.cli.main", "worker", str(plan.workdir)]
    with (folder / f"{index}.txt").open("wb") as output:
        # In a session of its own, so that Ctrl-C in a terminal reaches this process alone, which tells the workers.
        return subprocess.Popen(
            words, env={**os.environ, **place}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _places(workers: int, per_gpu: int) -> list[Mapping[str, str]]:
    """The environment of each worker, which says which devices it has."""
    gpus = _gpus()
    if per_gpu:
        if not gpus:
            raise TlxError("--per_gpu places workers on GPUs, and this machine has none; use --workers.")
        share = {} if per_gpu == 1 else {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / per_gpu:.3f}"}
        return [{"CUDA_VISIBLE_DEVICES": gpu, **share} for _ in range(per_gpu) for gpu in gpus]
    if gpus or workers < 2 or not hasattr(os, "sched_getaffinity"):
        return [{}] * workers
    cores = sorted(os.sched_getaffinity(0))
    return [
        {"TLX_CORES": ",".join(map(str, cores[index::workers] or [cores[index % len(cores)]]))}
        for index in range(workers)
    ]


def _gpus() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES has them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    return [str(index) for index, _ in enumerate(line for line in found.stdout.splitlines() if line.startswith("GPU "))]


def _wait_for_one(running: list[Worker], seconds: float) -> None:
    """Waits, but not longer than until all workers have ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(worker.poll() is None for worker in running):
        time.sleep(0.1)


def _last_words(logs: Path) -> str:
    """The last line of a worker's output."""
    for file in sorted(logs.glob("*.txt")):
        if lines := file.read_text(errors="replace").strip().splitlines():
            return f"the last words of worker {file.stem} are: {lines[-1].rstrip('.')}"
    return "they printed nothing"
