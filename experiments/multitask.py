"""Trains several tasks on one backbone.

    python experiments/multitask.py --config=configs/multitask.py --workdir=runs/multitask

The same command on the same workdir resumes a stopped run.
"""

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

keep_memory()
with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from tlx.cli.experiment import launch

if __name__ == "__main__":
    launch()
