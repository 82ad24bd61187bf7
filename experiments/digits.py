"""Does transfer pay? Digits 0 to 4 first, then 5 to 9 from few labels, against random weights; offline, two minutes.

python experiments/digits.py --workdir=runs/digits_transfer
"""

from pathlib import Path

from tlx.cli.launch import launched, run
from tlx.errors import one_sentence

with one_sentence():  # an installation that is broken, too
    from absl import flags

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
