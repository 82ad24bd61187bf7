"""Trains several tasks on one backbone.

    python experiments/multitask.py --config=configs/multitask.py --workdir=runs/multitask

The same command on the same workdir resumes a stopped run.
"""

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

keep_memory()
with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from absl import flags
    from ml_collections import config_flags

    from tlx.cli.launch import launched, run

    CONFIG = config_flags.DEFINE_config_file("config", None, "What to run; fields can be overridden: --config.seed=1.")
    WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
    flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Builds the job and runs it."""
    del argv
    with launched(WORKDIR.value, CONFIG.value):
        from tlx.recipes import finetune

        job = finetune.build(CONFIG.value, WORKDIR.value)
        summary = job.run()
        if not job.layout.is_main:
            return
        for name, value in summary["metrics"].items():
            print(f"{name:28} {value:.4f}")
        print(f"{summary['selection']}; {summary['seconds']:.0f} s; {WORKDIR.value}/summary.json")


if __name__ == "__main__":
    run(main)
