"""Prepared sets of tensorflow-datasets that are not to be trusted: nothing is imported, nothing waits."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds

from tlx.data.sources import load
from tlx.errors import TlxError

CORE = "tensorflow_datasets.core.features"
OWN = "tlx_hostile_feature.Own"
PROTO = {"pythonClassName": f"{CORE}.features_dict.FeaturesDict"}


class TlxHostileSet(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        columns = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(columns))

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:
        for i in range(4):
            yield i, {"text": f"text {i}", "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    TlxHostileSet(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def version(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the set's files; beside it a module that leaves a trace when it is imported."""
    home = shutil.copytree(prepared, tmp_path / "sets")
    (tmp_path / "tlx_hostile_feature.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    return home / "tlx_hostile_set" / "1.0.0"


def legacy(content: Any) -> dict[str, Any]:
    return {"type": f"{CORE}.features_dict.FeaturesDict", "content": {"text": content}}


def within_json(name: str) -> dict[str, Any]:
    """A feature's content as a JSON text inside of the JSON, which tfds parses a second time."""
    return {**PROTO, "jsonFeature": {"json": json.dumps({"text": {"type": name, "content": {}}})}}


NAMES = {
    "camel case": {**PROTO, "featuresDict": {"features": {"text": {"pythonClassName": OWN, "text": {}}}}},
    "snake case": {**PROTO, "featuresDict": {"features": {"text": {"python_class_name": OWN, "text": {}}}}},
    "legacy": legacy({"type": OWN, "content": {}}),
    "json in json": within_json(OWN),
    "the root": {"pythonClassName": OWN, "text": {}},
}


@pytest.mark.parametrize("kind", NAMES)
def test_no_module_of_a_description_is_imported(version: Path, tmp_path: Path, kind: str) -> None:
    (version / "features.json").write_text(json.dumps(NAMES[kind]))
    with pytest.raises(TlxError, match=r"asks for the feature class 'tlx_hostile_feature\.Own', which is not one of"):
        load("tfds:tlx_hostile_set")
    assert not (tmp_path / "imported").exists() and "tlx_hostile_feature" not in sys.modules


def test_nor_one_of_the_other_description(version: Path, tmp_path: Path) -> None:
    """`dataset_info.json` may hold the features too."""
    file = version / "dataset_info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "features": NAMES["camel case"]}))
    with pytest.raises(TlxError, match="asks for the feature class"):
        load("tfds:tlx_hostile_set")
    assert not (tmp_path / "imported").exists()


def test_nor_a_module_of_tfds_that_is_no_feature(version: Path) -> None:
    name = "tensorflow_datasets.scripts.cli.main.Main"
    (version / "features.json").write_text(json.dumps({"pythonClassName": name, "text": {}}))
    with pytest.raises(TlxError, match="asks for the feature class"):
        load("tfds:tlx_hostile_set")
    assert "tensorflow_datasets.scripts.cli.main" not in sys.modules


def test_tfds_is_as_before_afterwards(version: Path) -> None:
    """Whoever has connectors of his own uses them with tfds, after a set was read or refused here."""
    before = tfds.features.FeatureConnector.__dict__["cls_from_name"]
    assert load("tfds:tlx_hostile_set").columns["label"].count("yes") == 2
    (version / "features.json").write_text(json.dumps(NAMES["legacy"]))
    with pytest.raises(TlxError):
        load("tfds:tlx_hostile_set")
    assert tfds.features.FeatureConnector.__dict__["cls_from_name"] is before


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def says(**changes: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        said = json.loads(file.read_text())
        said["splits"][0] |= changes
        file.write_text(json.dumps(said))

    return change


def elsewhere(file: Path) -> None:
    label = {"type": f"{CORE}.class_label_feature.ClassLabel", "content": {"names_file": "/etc/hostname"}}
    file.write_text(json.dumps(legacy(label)))


def many_classes(file: Path) -> None:
    said = json.loads(file.read_text())
    said["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = str(10**15)
    file.write_text(json.dumps(said))
    (file.parent / "label.labels.txt").unlink()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("features.json", pipe, "features.json is not a file but a pipe"),
        ("label.labels.txt", pipe, "label.labels.txt is not a file but a pipe"),
        ("tlx_hostile_set-train.array_record-00000-of-00001", endless, "is not a file but a pipe or a device"),
        ("dataset_info.json", lambda file: file.write_bytes(b" " * (9 * 2**20)), "has 9,437,184 bytes, more than"),
        ("features.json", lambda file: file.write_text("[" * 10**6), "cannot be opened in .*recursion"),
        ("features.json", lambda file: file.write_text('{"featuresDict": 3}'), "cannot be opened in "),
        ("features.json", lambda file: file.write_text("{}"), "asks for the feature class ''"),
        ("dataset_info.json", says(shardLengths=[str(10**12)]), "said to have 1,000,000,000,000 rows"),
        ("dataset_info.json", says(filepathTemplate="../../{DATASET}-{SPLIT}"), "names files outside of"),
        ("features.json", elsewhere, "names of its labels from /etc/hostname, which lies outside of the set"),
        ("features.json", many_classes, "said to have 1,000,000,000,000,000 classes"),
    ],
)
def test_refused(version: Path, name: str, damage: Callable[[Path], Any], message: str) -> None:
    damage(version / name)
    with pytest.raises(TlxError, match=message) as error:
        load("tfds:tlx_hostile_set")
    assert str(error.value).startswith("data 'tfds:tlx_hostile_set'") and "\n" not in str(error.value)
