"""The demo of `make demo`: fine-tunes a BERT to predict a colour from its name.

python experiments/demo.py --workdir=runs/demo
"""

from pathlib import Path

from tlx.cli.launch import launched, run
from tlx.errors import one_sentence

with one_sentence():  # also for a broken installation
    from absl import flags
    from ml_collections import config_flags

CONFIGS = Path(__file__).parent.parent / "configs"
PRETRAINED = config_flags.DEFINE_config_file("pretrained", str(CONFIGS / "colors.py:pretrained"), "The fine-tuned row.")
RANDOM = config_flags.DEFINE_config_file("random", str(CONFIGS / "colors.py:random"), "The row from random weights.")
WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Where both runs, the table and the pictures go.")


def main(argv: list[str]) -> None:
    """Runs the demo."""
    del argv
    with launched(WORKDIR.value):
        import _demo

        _demo.run(PRETRAINED.value, RANDOM.value, Path(WORKDIR.value))


if __name__ == "__main__":
    run(main)
