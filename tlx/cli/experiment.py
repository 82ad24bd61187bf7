"""What the scripts that run one config share: the flags `--config` and `--workdir`, and what they print at the end."""

from typing import Any

from absl import flags
from ml_collections import config_flags

from tlx.cli.launch import launched, run

flags.disclaim_key_flags()  # --help of a script shows its flags, and not those of all modules


def launch() -> None:
    """Parses the command line, builds the job of the config, runs it, and prints metrics and choices."""
    config: Any = config_flags.DEFINE_config_file(
        "config", None, "What to run; fields can be overridden: --config.seed=1."
    )
    workdir: Any = flags.DEFINE_string("workdir", None, "The run directory.")
    flags.mark_flags_as_required(["config", "workdir"])

    def main(argv: list[str]) -> None:
        del argv
        with launched(workdir.value, config.value):
            from tlx.recipes import finetune

            job = finetune.build(config.value, workdir.value)
            summary = job.run()
            if job.layout.is_main:
                tell(summary, workdir.value)

    run(main)


def tell(summary: dict[str, Any], workdir: str) -> None:
    """Prints the metrics and, of a run with a target domain, what each way to choose a checkpoint is worth."""
    from tlx.recipes.selection import table_of_choices
    from tlx.reporting.tables import show

    for name, value in summary["metrics"].items():
        print(f"{name:28} {value:.4f}")
    if target := summary.get("target"):
        show(f"what is chosen, and its {target['metric']}", ("by", "step", "value"), table_of_choices(target))
    print(f"{summary['selection']}; {summary['seconds']:.0f} s; {workdir}/summary.json")
