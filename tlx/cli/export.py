"""`tlx export RUN --to DIR`: a trained run as a folder that transformers opens."""

from pathlib import Path

from tlx.cli.launch import quiet_logs


def main(run: str, to: str) -> None:
    """Writes the best checkpoint's weights, config and tokenizer."""
    quiet_logs()
    from tlx.pretrained.save import write_folder
    from tlx.recipes.run_directory import load_run

    trained = load_run(Path(run))
    folder = write_folder(to, trained.model, trained.params, tokenizer_from=trained.pretrained)
    print(f"{folder}: step {trained.step} of {run}; AutoModelForSequenceClassification.from_pretrained({to!r}).")
