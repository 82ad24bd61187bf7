"""Adapts a model from a labelled source domain to an unlabelled target domain.

    python experiments/adapt.py --config=configs/adapt_digits.py --workdir=runs/adapt

The same command on the same workdir resumes a stopped run. How to: docs/howto_adaptation.md.
"""

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

keep_memory()
with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from tlx.cli.experiment import launch

if __name__ == "__main__":
    launch()
