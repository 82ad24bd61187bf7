"""Every shipped config: its launch command stands on top, and every leaf of it is overridden from the command line."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from tlx.cli import launch
from tlx.recipes import defaults

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("*.py"))
ARGUMENTS = {
    "colors": ["", "random"],
    "text_file": ["", "sst2", "ag_news"],
    "glue_mrpc": ["", "minilm"],
    "multilabel": ["", "labels"],
    "multitask": ["", "pcgrad"],
    "multitask_texts": ["", "cagrad"],
    "question_answering": ["", "v2"],
    "vit_cifar10": ["", "sgd", "mini"],
    "adapt_digits": ["", "mnist-usps"],
    "adapt_text": ["", "books-electronics"],
}
CONFIGS = [
    f"configs/{file.name}{argument and ':' + argument}" for file in FILES for argument in ARGUMENTS.get(file.stem, [""])
]


def parse(config: str, *overrides: str) -> ConfigDict:
    """As a launch script does."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    with mock.patch.object(sys, "argv", ["script", f"--config={ROOT}/{config}", *overrides]):  # ml_collections reads it
        values(sys.argv)
    return values.config


def leaves(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, or the type of a placeholder."""
    found: dict[str, Any] = {}
    for name in config:
        value = config.get_ref(name) if config.get_oneway_ref(name).get() is None else config[name]
        if isinstance(value, ConfigDict):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value.get_type() if isinstance(value, FieldReference) else value
    return found


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, type):
        return {str: "column", int: 7, float: 0.25, bool: True}[value]
    if isinstance(value, bool):
        return not value
    return {str: "other", int: 7, float: 0.125, tuple: (("a.*", "frozen"), ("b.*", "default"))}[type(value)]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_leaf_is_overridden(config: str) -> None:
    before = leaves(parse(config))
    wanted = {name: another(value) for name, value in before.items()}
    assert all(wanted[name] != value for name, value in before.items())
    overridden = parse(config, *(f"--config.{name}={value}" for name, value in wanted.items()))
    assert leaves(overridden) == wanted


@pytest.mark.parametrize("config", CONFIGS)
def test_one_shape(config: str) -> None:
    """The fields are those of the defaults, of their types, but for groups of parameters of the config's own."""

    def types(config: ConfigDict) -> dict[str, type]:
        return {name: value if isinstance(value, type) else type(value) for name, value in leaves(config).items()}

    shape = types(defaults.multitask() if "multitask" in config else defaults.finetune())
    for name, found in types(parse(config)).items():
        if not re.match(r"params\.groups\.(?!default)|tasks\.", name):
            assert found is shape[name], name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_launch_command_and_score_stand_on_top(file: Path) -> None:
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    scripts = {"adapt": "adapt", "multitask": "multitask"}
    script = scripts.get(file.stem.partition("_")[0], "finetune")
    assert f"python experiments/{script}.py --config=configs/{file.name}" in said
    assert re.search(r"[Nn]ot run here|Scores?: (docs/\S+\.md|README\.md)", said)
    for page in re.findall(r"docs/\w+\.md", said):
        assert (ROOT / page).is_file()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--config.optimizer.learning_rat=1",
            "the config has no field 'learning_rat'. Did you mean \"learning_rate\"?",
        ),
        ("--config.sead=1", "the config has no field 'sead'. Did you mean \"seed\"?"),
        ("--config.xyzzy=1", "the config has no field 'xyzzy'. tlx/recipes/defaults.py lists the fields."),
        ("--config.seed=abc", "flag --config.seed=abc: invalid literal for int() with base 10: 'abc'."),
        (
            "--config.train.epochs=three",
            "flag --config.train.epochs=three: could not convert string to float: 'three'.",
        ),
        ("--config.loss.balanced=perhaps", "flag --config.loss.balanced=perhaps: "),
        ("--config.params=1", "flag --config.params=1: Failed to parse '1' as a ConfigDict"),
        ("--wrkdir=x", "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
    ],
)
def test_a_bad_override_is_one_sentence(
    argument: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(sys, "argv", ["script", f"--config={ROOT}/configs/text_file.py", argument])
    with pytest.raises(SystemExit) as ended:
        launch.parse(sys.argv)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"tlx: {message}") and said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/none.py", "there is no config file"),
        (
            "configs/adapt_digits.py:mnist-svhn",
            "configs/adapt_digits.py takes SOURCE-TARGET of mnist, usps, mnist_m, found 'mnist-svhn'.",
        ),
        ("configs/glue_mrpc.py:roberta", "configs/glue_mrpc.py takes 'bert' or 'minilm', found 'roberta'."),
    ],
)
def test_a_bad_config_file_is_one_sentence(config: str, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "experiments/finetune.py", f"--config={config}", f"--workdir={tmp_path}/run"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2 and message in process.stderr and process.stderr.count("\n") == 1, process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["finetune", "ablate"])
def test_a_script_without_flags_says_what_it_needs(script: str) -> None:
    command = [sys.executable, f"experiments/{script}.py"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 2 and process.stderr.startswith("tlx: flag --"), process.stderr
    assert "--workdir must have a value" in process.stderr and process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--config=runs"], ["--config", "configs/none.py:mini"], ["--seed=1", "--config"]]
)
def test_a_config_that_is_no_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        launch.parse(["script", *arguments])
    named = arguments[-1].removeprefix("--config=").removeprefix("--config")
    expected = f"tlx: there is no config file {named!r}; expected FILE.py[:ARGUMENT].\n"
    assert ended.value.code == 2 and capsys.readouterr().err == expected


@pytest.mark.slow
def test_ctrl_c_is_one_sentence() -> None:
    code = "from tlx.cli.launch import launched\nwith launched():\n    raise KeyboardInterrupt"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 130 and process.stderr.startswith("tlx: stopped") and process.stderr.count("\n") == 1
