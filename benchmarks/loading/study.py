"""Time and memory to load a file of BERT-large's size, in every format, beside transformers' own loading.

    python benchmarks/loading/study.py --workdir=runs/loading

Each load is a process of its own, started anew; what is measured is its anonymous memory (RssAnon) above the level just
before loading, at its peak and when it is done, and the seconds between. Files are in the page cache for both sides.
Needs about 7 GB of disk; `make .venv-interop/.ready .venv-flax/.ready` makes the other environments.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "formats"))
from table import other_python

from tlx.errors import one_sentence
from tlx.reporting.tables import markdown

HERE = Path(__file__).parent
# Form -> what loads it on the other side
FORMS = {
    "safetensors": "torch",
    "safetensors, in parts": "torch",
    "bin": "torch",
    "bin, before 1.6": "torch",
    "msgpack": "flax",
}


def main() -> None:
    """Writes the files once, measures, keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/loading"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()
    workdir = options.workdir.absolute()
    if not (workdir / "written").exists():
        make = [other_python("torch"), str(HERE / "make.py"), str(workdir), str(options.layers)]
        subprocess.run(make, check=True)
        subprocess.run([sys.executable, str(HERE / "make_msgpack.py"), str(workdir)], check=True)
        (workdir / "written").touch()
    size = json.loads((workdir / "size.json").read_text(encoding="utf-8"))["bytes"]
    rows = []
    for form, side in FORMS.items():
        sides = {"tlx": sys.executable, "transformers": other_python(side)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.repeats):  # in turn, so that both meet the same machine
            for name, python in sides.items():
                found[name].append(measure(python, name, side, workdir / form))
        cells = []
        for name in sides:
            seconds, peak = (statistics.median(values) for values in zip(*found[name], strict=True))
            cells += [f"{seconds:.1f}", f"{peak / size:.2f}"]
        rows.append((form, *cells))
        print(rows[-1], flush=True)
    header = ("format", "tlx, s", "peak / parameters", "transformers, s", "peak / parameters")
    table = markdown(header, rows)
    (workdir / "table.md").write_text(f"Parameters: {size / 1e9:.2f} GB.\n\n{table}", encoding="utf-8")


def measure(python: str, side: str, other: str, folder: Path) -> tuple[float, float]:
    """(seconds, peak of anonymous bytes above the level before) of one load."""
    what = side if side == "tlx" else other
    process = subprocess.Popen(
        [python, str(HERE / "load.py"), what, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
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
        raise SystemExit(f"loading {folder} by {what} failed")
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
