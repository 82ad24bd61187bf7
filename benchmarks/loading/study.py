"""Time and memory to load a file of BERT-large's size in every format, compared with transformers.

    python benchmarks/loading/study.py --workdir=runs/loading

Each load is a new process. The seconds and the peak of anonymous memory (RssAnon) above its level just before loading
are measured. Files are in the page cache for both sides. It needs about 7 GB of disk;
`make .venv-interop/.ready .venv-flax/.ready` creates the other environments.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import arguments, publish, python_of, run

from tlx.errors import one_sentence
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

HERE = Path(__file__).parent
# Format -> the software that loads it on the other side
FORMS = {
    "safetensors": "torch",
    "safetensors, in parts": "torch",
    "bin": "torch",
    "bin, before 1.6": "torch",
    "msgpack": "flax",
}


def main() -> None:
    """Writes the files once, measures, writes the table."""
    parser = arguments(__doc__, "runs/loading")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()
    workdir = options.workdir
    if not (workdir / "written").exists():
        run("torch", HERE / "make.py", workdir, options.layers)
        model, params = from_pretrained(workdir / "safetensors")
        write_folder(workdir / "msgpack", model, params, format="msgpack", max_shard_bytes=10**10)
        del params
        (workdir / "written").touch()
    size = json.loads((workdir / "size.json").read_text(encoding="utf-8"))["bytes"]
    rows = []
    for form, side in FORMS.items():
        found: dict[str, list[tuple[float, float]]] = {"tlx": [], side: []}
        for _ in range(options.repeats):  # in turn, so that machine load affects both alike
            for name, measured in found.items():
                measured.append(measure(name, workdir / form))
        cells = []
        for measured in found.values():
            seconds, peak = (statistics.median(values) for values in zip(*measured, strict=True))
            cells += [f"{seconds:.1f}", f"{peak / size:.2f}"]
        rows.append((form, *cells))
        print(rows[-1], flush=True)
    header = ("format", "tlx, s", "peak / parameters", "transformers, s", "peak / parameters")
    publish(workdir, "loading", header, rows, above=f"Parameters: {size / 1e9:.2f} GB.")


def measure(side: str, folder: Path) -> tuple[float, float]:
    """Measures one load: seconds, and peak of anonymous memory in bytes above the level before."""
    command = [python_of(side), str(HERE / "load.py"), side, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    before = peak = anonymous(process.pid)
    started = time.perf_counter()
    process.stdin.write("go\n")
    process.stdin.flush()
    done = False
    while not done:
        peak = max(peak, anonymous(process.pid))
        state = (folder.parent / f"{process.pid}.done").exists()
        done = state or process.poll() is not None
        time.sleep(0.002)
    (folder.parent / f"{process.pid}.done").unlink(missing_ok=True)
    seconds = float(process.stdout.readline())
    process.stdin.close()
    if process.wait():
        raise SystemExit(f"loading {folder} by {side} failed")
    assert time.perf_counter() - started >= seconds
    return seconds, peak - before


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that no file stands behind."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    with one_sentence():
        main()
