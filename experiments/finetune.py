"""Fine-tunes a checkpoint on a task.

    python experiments/finetune.py --config=configs/colors.py --workdir=runs/colors

The same command on the same workdir goes on where it was stopped.
"""

import json

from absl import app, flags
from ml_collections import config_flags

from tlx.errors import one_sentence
from tlx.recipes import finetune

CONFIG = config_flags.DEFINE_config_file("config", None, "What to run; fields can be overridden: --config.seed=1.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Builds the job, runs it, prints the summary."""
    del argv
    with one_sentence():
        summary = finetune.build(CONFIG.value, WORKDIR.value).run()
        print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    app.run(main)
