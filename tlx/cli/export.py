"""`tlx export RUN --to DIR`: writes a trained run as a folder that transformers opens, with a model card."""

import argparse
from pathlib import Path
from typing import Any

from tlx.cli.launch import quiet_logs
from tlx.cli.steps import add_step, load
from tlx.errors import TlxError
from tlx.files.atomic import writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, --to, --format, --max-shard-gb, --task, --joint and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument(
        "--to", required=True, metavar="DIR", help="the folder to write; an earlier export in it is replaced"
    )
    parser.add_argument(
        "--format", choices=("safetensors", "msgpack"), default="safetensors",
        help="format of the weights (%(default)s); msgpack is Flax's format, which transformers reads up to 4.57",
    )  # fmt: skip
    parser.add_argument(
        "--max-shard-gb",
        type=float,
        default=5.0,
        help="largest size of a weight file in GB (%(default)s); larger weights are split into several files",
    )
    parser.add_argument(
        "--task", metavar="NAME",
        help="the task whose head is written, of a run of several, from the checkpoint that is best by its own metric",
    )  # fmt: skip
    parser.add_argument("--joint", action="store_true", help="with --task: from the checkpoint that the run selected")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Writes the best checkpoint's weights, config, tokenizer or image processor, and model card.

    Of a task of several that is the checkpoint that is best by the task's own metric. A run that has not ended, or that
    an earlier version trained, has the run's best for all tasks. The line on standard error says which it is.
    """
    quiet_logs()
    from tlx.recipes.run_directory import read_summary

    run, max_bytes = Path(arguments.run), int(arguments.max_shard_gb * 1e9)
    if arguments.joint and (arguments.task is None or arguments.step is not None):
        raise TlxError("--joint chooses the checkpoint of one task; give it with --task, and without --step.")
    summary = read_summary(run)
    best_by_task = {} if summary is None or arguments.joint else summary.get("best_by_task", {})
    trained = load(arguments.run, arguments.step, best_by_task.get(arguments.task))
    if arguments.task is None:
        _ = trained.head  # of several tasks, one has to be named
    print(write(trained, run, summary, arguments.to, arguments.format, max_bytes, arguments.task))


def write(
    trained: Any, run: Path, summary: Any, to: str, format: str = "safetensors", max_shard_bytes: int = 5 * 10**9,
    task: str | None = None,
) -> str:  # fmt: skip
    """Writes the folder.

    Args:
      trained: the trained run.
      run: its run directory.
      summary: its summary, from which the model card takes the metrics; None if there is none.
      to: the folder to write.
      format: "safetensors" or "msgpack".
      max_shard_bytes: largest size of a file of weights.
      task: the task whose head is written; None: the run has one.

    Returns:
      A line that says how to open the folder with transformers.
    """
    from tlx.pretrained.folder import hub_id
    from tlx.pretrained.names import names_of
    from tlx.pretrained.save import hf_config, write_folder
    from tlx.recipes.run_directory import read_run
    from tlx.recipes.trained import written_of_task
    from tlx.reporting.card import model_card

    written = read_run(run)
    if task is not None:
        trained = trained.of_task(task)
        written, summary = written_of_task(written, summary, task, trained.step)
    base_model = hub_id(trained.config["model"]["checkpoint"])
    kind, inputs = trained.head.kind, trained.inputs
    card = model_card(
        written, summary, trained.step, base_model,
        pipeline_tag=inputs.pipeline_tag(kind), limits=inputs.limits(kind),
    )  # fmt: skip
    with writable(to):
        folder = write_folder(
            to, trained.model, trained.params, tokenizer_from=trained.pretrained, card=card,
            format=format, max_shard_bytes=max_shard_bytes,
        )  # fmt: skip
    config = hf_config(trained.model)
    auto_class = config["architectures"][0].replace(names_of(config["model_type"]).stem, "AutoModel")
    auto_class = auto_class if format == "safetensors" else f"Flax{auto_class}"
    return f"{folder}: step {trained.step} of {run}; {auto_class}.from_pretrained({to!r})."
