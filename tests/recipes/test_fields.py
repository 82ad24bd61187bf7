"""Misspelled fields of a config are refused, wherever they are; open sections keep names of their own."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults, finetune
from tlx.recipes.fields import check_fields
from tlx.studies.study import changed


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("params.trainible", r"there is no field config\.params\.trainible; did you mean config\.params\.trainable\?"),
        ("data.max_lenght", r"config\.data\.max_lenght; did you mean config\.data\.max_length\?"),
        ("sead", r"there is no field config\.sead; did you mean config\.seed\?"),
        ("zzz", r"there is no field config\.zzz; tlx/recipes/defaults\.py lists the fields\."),
    ],
)
def test_a_misspelled_field(field: str, message: str) -> None:
    config = defaults.finetune()
    config.update_from_flattened_dict({field: 3})
    with pytest.raises(TlxError, match=message):
        check_fields(config)
    with pytest.raises(TlxError, match=message):
        changed(defaults.finetune(), {field: 3})


def test_a_run_refuses_it_before_anything_is_read(tmp_path: Path) -> None:
    config = defaults.finetune()
    config.model.checkpoint, config.train.epoch = str(tmp_path / "none"), 3.0
    with pytest.raises(TlxError, match=r"did you mean config\.train\.epochs\?"):
        finetune.build(config, tmp_path / "run")


def test_names_of_methods_tasks_and_groups_are_free() -> None:
    config = defaults.multitask()
    config.method.trade_off, config.params.groups.slow = 0.5, ConfigDict({"multiplier": 0.1})
    config.loss.gamma = 1.5  # of the loss "focal", say
    config.tasks.mine = ConfigDict({"data": {"train": "csv:mine.csv"}})
    check_fields(config)
