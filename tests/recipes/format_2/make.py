"""How this folder was made: `PYTHONPATH=. python make.py FOLDER` from a checkout of revision dccfada (format 2)."""

import os
import shutil
import sys
from pathlib import Path

from tests import tiny
from tlx.recipes import finetune

STOP = 25  # steps of 44; the last checkpoint before it is of step 22


def config() -> object:
    """The lower block frozen, an exponential moving average of the rest."""
    made = tiny.config(Path("$TLX_OLD_RUN/checkpoint"), Path("$TLX_OLD_RUN/reviews.csv"))
    made.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    made.average.kind = "ema"
    made.train.epochs = 4.0
    return made


def main(folder: Path) -> None:
    os.environ["TLX_OLD_RUN"] = str(folder)
    tiny.write_checkpoint(folder / "checkpoint")
    tiny.write_reviews(folder / "reviews.csv", 300)
    finetune.build(config(), folder / "whole").run(quiet=True)
    tiny.run_and_stop(finetune.build(config(), folder / "run"), STOP)
    shutil.copy(folder / "whole" / "predictions" / "test.npz", folder / "test_ema.npz")
    shutil.rmtree(folder / "whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
