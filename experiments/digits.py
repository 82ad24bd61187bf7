"""Transfer from digits 0 to 4 to digits 5 to 9 with few labels, compared with random weights; offline, two minutes.

python experiments/digits.py --workdir=runs/digits_transfer
"""

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

keep_memory()
with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from pathlib import Path

    from absl import flags

    from tlx.cli.launch import launched, run

    CHECKPOINT = Path(__file__).parent.parent / "configs" / "vit_digits"
    WORKDIR = flags.DEFINE_string("workdir", "runs/digits_transfer", "Where the table and the picture go.")


def main(argv: list[str]) -> None:
    """Runs the comparison."""
    del argv
    with launched(WORKDIR.value):
        import _digits

        _digits.run(CHECKPOINT, Path(WORKDIR.value))


if __name__ == "__main__":
    run(main)
