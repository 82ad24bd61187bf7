"""Runs and workdirs."""

import json
import os
from pathlib import Path
from typing import Any

from tests.hostile.cases import case
from tests.hostile.place import Place


def of_run(place: Place, spoil: Any) -> list[str]:
    """`tlx predict` of a run whose folder is spoilt."""
    run = place.copy("run")
    spoil(run)
    return place.predict(run, place.reviews)


@case()
def run_config_nested_deeply(place: Place) -> list[str]:
    return of_run(place, lambda run: (run / "config.json").write_text('{"config": ' + "[" * 10**6))


@case()
def run_config_without_fields(place: Place) -> list[str]:
    return of_run(place, lambda run: (run / "config.json").write_text('{"config": {}, "heads": {"default": {}}}'))


def edited(change: Any) -> Any:
    def spoil(run: Path) -> None:
        said = json.loads((run / "config.json").read_text())
        change(said)
        (run / "config.json").write_text(json.dumps(said))

    return spoil


@case()
def run_config_with_unknown_fields(place: Place) -> list[str]:
    return of_run(place, edited(lambda said: said["heads"]["default"].update(evil="evil.Evil")))


@case()
def run_config_with_a_number_of_100000_digits(place: Place) -> list[str]:
    def spoil(run: Path) -> None:
        text = (run / "config.json").read_text()
        (run / "config.json").write_text(text.replace('"seed": 0', '"seed": ' + "9" * 100_000))

    return of_run(place, spoil)


@case()
def run_config_of_another_width(place: Place) -> list[str]:
    def spoil(run: Path) -> None:
        file = run / "pretrained" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "hidden_size": 64}))

    return of_run(place, spoil)


@case()
def run_config_is_a_pipe(place: Place) -> list[str]:
    def spoil(run: Path) -> None:
        (run / "config.json").unlink()
        os.mkfifo(run / "config.json")

    return of_run(place, spoil)


@case()
def run_backbone_names_a_module(place: Place) -> list[str]:
    return of_run(place, edited(lambda said: said.update(backbone="evil.Evil")))


@case()
def run_checkpoint_nested_deeply(place: Place) -> list[str]:
    """Orbax' own description of a step."""

    def spoil(run: Path) -> None:
        for file in run.glob("checkpoints/*/**/_METADATA"):
            file.write_text("[" * 10**6)

    return of_run(place, spoil)


@case()
def run_metrics_nested_deeply(place: Place) -> list[str]:
    """Going on with a run of which a line of `metrics.jsonl` is no line of ours."""
    run = place.copy("run")
    (run / "metrics.jsonl").write_text("[" * 10**6 + "\n")
    options = {"data.test_fraction": 0.2, "train.epochs": 1, "train.batch_size": 20}
    return place.finetune(place.text, f"csv:{place.reviews}", run, **options)


@case()
def summary_nested_deeply(place: Place) -> list[str]:
    run = place.copy("run")
    (run / "summary.json").write_text("[" * 10**6)
    return ["export", str(run), "--to", str(place.here / "export")]


@case(r"step \d+, its best")
def labels_that_a_web_page_would_run(place: Place) -> list[str]:
    """The run's labels are a script and a formula; `check_card` reads what was written."""
    return ["export", str(place.run), "--to", str(place.here / "export")]


@case()
def labels_that_a_spreadsheet_would_run(place: Place) -> list[str]:
    return place.predict(place.run, place.reviews)


@case()
def workdir_is_a_file(place: Place) -> list[str]:
    (place.here / "workdir").touch()
    return place.finetune(place.text, f"csv:{place.reviews}")


@case()
def workdir_below_a_file(place: Place) -> list[str]:
    (place.here / "workdir").touch()
    return place.finetune(place.text, f"csv:{place.reviews}", place.here / "workdir" / "below")


@case()
def workdir_that_cannot_be_written(place: Place) -> list[str]:
    return place.finetune(place.text, f"csv:{place.reviews}", Path("/proc/tlx"))


@case()
def answers_into_a_folder_that_cannot_be_written(place: Place) -> list[str]:
    return place.predict(place.run, place.reviews, "/proc/answers.csv")


@case()
def features_into_a_folder_that_cannot_be_written(place: Place) -> list[str]:
    return [*place.features(place.text, f"csv:{place.reviews}")[:-1], "/proc/features.npz"]


@case()
def answers_into_a_full_device(place: Place) -> list[str]:
    return [*place.predict(place.run, place.reviews, "/dev/full"), "--format", "csv"]
