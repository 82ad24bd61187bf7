"""A script with a method of its own: two players, a second stream, then self-training (tests/recipes/test_methods.py).

python tests/safety/players.py --config=tests/safety/config.py:players --workdir=runs/players
"""

import os

from absl import flags
from ml_collections import config_flags

from tests.recipes.test_methods import METHODS
from tlx.cli.launch import launched, run

CONFIG = config_flags.DEFINE_config_file("config", None, "What to run.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")


def main(argv: list[str]) -> None:
    del argv
    with launched(WORKDIR.value, CONFIG.value):
        from tlx.pretrained.folder import resolve
        from tlx.recipes import finetune
        from tlx.recipes.datasets import load_datasets
        from tlx.recipes.inputs import open_inputs
        from tlx.recipes.splits import with_splits
        from tlx.training.tasks import Stream

        config = CONFIG.value.copy_and_resolve_references()
        config.data.train, config.data.test_fraction = f"csv:{os.environ['TLX_SAFETY']}/target.csv", 0.0
        config.data.validation = CONFIG.value.data.train
        config = with_splits(config)
        target = load_datasets(config, open_inputs(resolve(config.model.checkpoint), config), {}).examples["train"]
        finetune.build(CONFIG.value, WORKDIR.value, methods=METHODS, streams={"target": Stream(target, 20)}).run()


if __name__ == "__main__":
    run(main)
