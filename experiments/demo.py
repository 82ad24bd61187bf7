"""The demo of `make demo`: fine-tunes a BERT to predict a colour from its name.

python experiments/demo.py --workdir=runs/demo
"""

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

keep_memory()
with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from pathlib import Path

    from absl import flags
    from ml_collections import config_flags

    from tlx.cli.launch import launched, run

    FILE = Path(__file__).parent.parent / "configs" / "colors.py"
    PRETRAINED = config_flags.DEFINE_config_file("pretrained", f"{FILE}:pretrained", "The fine-tuned row.")
    RANDOM = config_flags.DEFINE_config_file("random", f"{FILE}:random", "The row from random weights.")
    WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Where both runs, the table and the pictures go.")


def main(argv: list[str]) -> None:
    """Runs the demo."""
    del argv
    with launched(WORKDIR.value):
        import _demo

        _demo.run(PRETRAINED.value, RANDOM.value, Path(WORKDIR.value))


if __name__ == "__main__":
    run(main)
