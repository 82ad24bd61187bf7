"""What the scripts that run one config share: the flags `--config` and `--workdir`, and what they print at the end."""

from pathlib import Path
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

            train_baselines(config.value)
            job = finetune.build(config.value, workdir.value)
            summary = job.run()
            if job.layout.is_main:
                tell(summary, workdir.value)

    run(main)


def train_baselines(config: Any) -> None:
    """Trains the single-task runs that are missing in the folder `config.baselines`, if the config names one."""
    if not config.get("baselines") or config.get("single_task"):
        return
    from tlx.recipes import finetune
    from tlx.recipes.baselines import single_task_configs

    for name, own in single_task_configs(config).items():
        folder = Path(config.baselines) / name
        if not (folder / "summary.json").is_file():
            print(f"baselines: the task {name} is trained alone in {folder}.", flush=True)
            finetune.build(own, folder).run()


def tell(summary: dict[str, Any], workdir: str) -> None:
    """Prints the metrics and, of a run with a target domain, what each way to choose a checkpoint is worth."""
    from tlx.recipes.selection import table_of_choices
    from tlx.reporting.tables import show

    for name, value in summary["metrics"].items():
        print(f"{name:28} {value:.4f}")
    if target := summary.get("target"):
        show(f"what is chosen, and its {target['metric']}", ("by", "step", "value"), table_of_choices(target))
    for task, best in summary.get("best_by_task", {}).items():
        names = (best["by"], best["by"].replace("/validation/", "/test/"))
        shown = ", ".join(f"{name} {best['metrics'][name]:.4f}" for name in names if name in best["metrics"])
        print(f"{task}: step {best['step']} has its best {shown}")
    print(f"{summary['selection']}; {summary['seconds']:.0f} s; {workdir}/summary.json")
