"""Sets of tensorflow-datasets: prepared here, with builders of our own and GLUE's, and read without TensorFlow."""

import io
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.pictures import noise, smooth
from tlx.data import labels
from tlx.data.images import read_rgb
from tlx.data.lazy import Lazy
from tlx.data.sources import load
from tlx.data.tags import tag_indices
from tlx.errors import TlxError


def encoded(pixels: np.ndarray, form: str) -> io.BytesIO:
    image = io.BytesIO()
    Image.fromarray(pixels).save(image, form)
    image.seek(0)
    return image


class TlxTestSet(tfds.core.GeneratorBasedBuilder):
    """Five rows of every kind of feature."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = tfds.features
        columns = {
            "text": features.Text(),
            "label": features.ClassLabel(names=["neg", "pos"]),
            "stars": features.ClassLabel(num_classes=6),
            "score": np.float32,
            "flag": features.Scalar(dtype=np.bool_),
            "tokens": features.Sequence(features.Text()),
            "tags": features.Sequence(features.ClassLabel(names=["O", "B-x"])),
            "image": features.Image(),
            "nested": {"text": features.Text()},
            "parts": features.Sequence({"text": features.Text()}),
            "vector": features.Tensor(shape=(2,), dtype=np.float32),
        }
        return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(columns), disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples(5), "bad": self._generate_examples(3, b"caf\xe9")}

    def _generate_examples(self, rows: int, text: bytes = b"") -> Any:
        for i in range(rows):
            image = encoded(np.full((2, 3, 3), 40 * i, np.uint8), "png")
            yield (
                i,
                {
                    "text": text if text and i == 1 else f"café {i}",
                    "label": -1 if i == 2 else i % 2,
                    "stars": i,
                    "score": i / 2,
                    "flag": i > 2,
                    "tokens": ["é"] * i,
                    "tags": [1, 0, 0, 0][:i],
                    "image": image,
                    "nested": {"text": "x"},
                    "parts": [{"text": "x"}],
                    "vector": [0.0, 1.0],
                },
            )


class TlxTestCifar(tfds.core.GeneratorBasedBuilder):
    """The features of cifar10."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        columns = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=["airplane", "automobile", "bird"]),
        }
        features = tfds.features.FeaturesDict(columns)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples(40), "test": self._generate_examples(5)}

    def _generate_examples(self, rows: int) -> Any:
        for i in range(rows):
            yield i, {"id": f"train_{i:05}", "image": encoded(noise((32, 32, 3), i), "png"), "label": i % 3}


class TlxTestPhotos(tfds.core.GeneratorBasedBuilder):
    """Images and nothing else."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict({"photo": tfds.features.Image(encoding_format="jpeg")})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:
        yield 0, {"photo": encoded(smooth(20, 30, 0), "jpeg")}


class TlxTestPictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict({"vector": tfds.features.Tensor(shape=(2,), dtype=np.float32)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:
        yield 0, {"vector": [0.0, 1.0]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    for kind in (TlxTestSet, TlxTestPictures, TlxTestCifar, TlxTestPhotos):
        kind(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def folder(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def test_every_kind_of_feature(folder: Path) -> None:
    table = load("tfds:tlx_test_set")
    images = table.columns["image"]
    assert isinstance(images, Lazy) and [read_rgb(image).tolist() for image in images] == [
        np.full((2, 3, 3), 40 * i).tolist() for i in range(5)
    ]
    assert list(table.columns) == sorted(table.columns)
    assert {name: column for name, column in table.columns.items() if name != "image"} == {
        "flag": [False, False, False, True, True],
        "label": ["neg", "pos", None, "pos", "neg"],
        "score": [0.0, 0.5, 1.0, 1.5, 2.0],
        "stars": [0, 1, 2, 3, 4],
        "tags": [["B-x", "O", "O", "O"][:i] for i in range(5)],
        "text": [f"café {i}" for i in range(5)],
        "tokens": [["é"] * i for i in range(5)],
    }
    assert load("tfds:tlx_test_set:1.0.0@train[1:3]").columns["text"] == ["café 1", "café 2"]
    assert labels.classes(table.column("stars")) == ("0", "1", "2", "3", "4")
    assert [row.tolist() for row in tag_indices(table, "tokens", "tags", ("O", "B-x"))][2] == [1, 0]
    with pytest.raises(TlxError, match="row 3: the label in 'label' is missing"):
        labels.class_indices(table, "label", ("neg", "pos"))
    assert "tensorflow" not in sys.modules


def test_a_set_of_images(folder: Path) -> None:
    """Shuffled by tfds, so a row is found again by its id; from several threads, and read when asked for."""
    table = load("tfds:tlx_test_cifar")
    assert set(table.columns) == {"id", "image", "label"} and len(table) == 40
    numbers = [int(name.removeprefix("train_")) for name in table.column("id")]
    assert sorted(numbers) == list(range(40)) != numbers
    assert table.column("label") == [["airplane", "automobile", "bird"][number % 3] for number in numbers]
    with ThreadPoolExecutor(8) as pool:
        for number, image in zip(numbers, pool.map(table.column("image").__getitem__, range(40)), strict=True):
            assert isinstance(image, bytes)
            np.testing.assert_array_equal(read_rgb(image), noise((32, 32, 3), number))
    part = table.rows(np.array([7, 3, 7])).rows(np.array([1, 0]))
    assert [part.column("image")[i] for i in range(2)] == [table.column("image")[3], table.column("image")[7]]
    assert part.column("id") == [table.column("id")[3], table.column("id")[7]]
    assert len(load("tfds:tlx_test_cifar@test").column("image")) == 5
    photos = load("tfds:tlx_test_photos")
    assert set(photos.columns) == {"photo"} and len(photos) == 1
    theirs = tfds.builder("tlx_test_photos", data_dir=folder).as_data_source("train")[0]["photo"]
    np.testing.assert_array_equal(read_rgb(photos.column("photo")[0]), theirs)
    assert "tensorflow" not in sys.modules


def test_images_of_floats_are_left_out(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow alone writes them, as PNGs of the numbers' bytes, so the set here only says that it holds such."""
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "tlx_test_set" / "1.0.0" / "features.json"
    said = json.loads(file.read_text())
    said["featuresDict"]["features"]["image"]["image"] |= {"dtype": "float32", "encodingFormat": "png"}
    said["featuresDict"]["features"]["image"]["image"]["shape"]["dimensions"][-1] = "1"
    file.write_text(json.dumps(said))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "copy"))
    assert "image" not in load("tfds:tlx_test_set").columns


def test_an_image_that_is_damaged_on_the_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "copy"))
    photos = load("tfds:tlx_test_photos")
    file = next((tmp_path / "copy" / "tlx_test_photos" / "1.0.0").glob("*.array_record*"))
    file.write_bytes(b"")
    with pytest.raises(TlxError, match="data 'tfds:tlx_test_photos': its files are damaged"):
        photos.column("photo")[0]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tlx_test_set@test", "there is no split 'test'; there is train, bad"),
        ("tlx_test_set@", "there is no split ''"),
        ("tlx_test_set@train[", r"there is no split 'train\['"),
        ("tlx_test_set@train[:0]", "holds no rows"),
        ("tlx_test_set@bad", r"row 2: the text in 'text' is not UTF-8 \(byte 3: unexpected end of data\)"),
        ("tlx_test_pictures", "has no column of texts, labels, numbers or images; its features are vector"),
        ("tlx_test_set/large", r"is not prepared in .* \(under tlx_test_set there is 1.0.0\)"),
        (
            "no_such_set",
            r"is not prepared in [^(]*; run python -c .*builder\('no_such_set', file_format='array_record'\)",
        ),
        ("", "expected the name of a whole set"),
        ("../up", "'../up' cannot be opened in "),
    ],
)
def test_refused(folder: Path, where: str, message: str) -> None:
    with pytest.raises(TlxError, match=message) as error:
        load(f"tfds:{where}")
    assert str(error.value).startswith(f"data 'tfds:{where}'") and "\n" not in str(error.value)


def test_no_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(TlxError, match=f"glue/mrpc is not prepared in {tmp_path}/nowhere; run python"):
        load("tfds:glue/mrpc@validation")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("tlx_test_set-train.array_record-00000-of-00001", lambda data: data[:-100], "its files are damaged"),
        ("tlx_test_set-train.array_record-00000-of-00001", lambda data: b"", "its files are damaged"),
        ("tlx_test_set-train.array_record-00000-of-00001", None, "its files are damaged"),
        ("features.json", lambda data: data[:20], "cannot be opened in "),
        ("dataset_info.json", None, "cannot be opened in "),
        ("dataset_info.json", lambda data: data.replace(b"array_record", b"tfrecord"), "is stored as tfrecord, which"),
    ],
)
def test_damaged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Any, message: str
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "tlx_test_set" / "1.0.0" / name
    if damage:
        file.write_bytes(damage(file.read_bytes()))
    else:
        file.unlink()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "copy"))
    with pytest.raises(TlxError, match=message):
        load("tfds:tlx_test_set")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets.core", None)
    with pytest.raises(TlxError, match=r"needs a package that is missing .*; run pip install tensorflow_datasets"):
        load("tfds:tlx_test_set")


MRPC = {  # the layout of the real files: a BOM, a header, TABs, quotes that mean nothing
    "msr_paraphrase_train": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t1\t2\tHe said "yes .\tHe said yes .\n'
        "0\t3\t4\tOne .\tAnother .\n"
        "1\t5\t6\tThe café .\tA café .\n"
    ),
    "msr_paraphrase_test": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHidden .\tLabel .\n",
    "mrpc_dev_ids": "3\t4\n",
}


def test_glue_mrpc_from_its_own_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in MRPC.items():
        (tmp_path / name).write_text(content, encoding="utf-8")

    def download(self: Any, urls: dict[str, str]) -> dict[str, Path]:
        return {key: next(tmp_path / name for name in MRPC if name in url) for key, url in urls.items()}

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    with pytest.raises(TlxError, match="glue/mrpc is not prepared") as error:
        load("tfds:glue/mrpc")
    command = str(error.value).partition('python -c "')[2].partition('"')[0]
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "sets"))
    exec(command)  # the sentence's own command, its download put in place of the network's
    train, validation, test = (load(f"tfds:glue/mrpc@{split}") for split in ("train", "validation", "test"))
    rows = sorted(zip(train.column("idx"), train.column("sentence1"), train.column("label"), strict=True))
    assert rows == [(0, 'He said "yes .', "equivalent"), (2, "The café .", "equivalent")]
    assert validation.columns == {
        "idx": [1], "label": ["not_equivalent"], "sentence1": ["One ."], "sentence2": ["Another ."],
    }  # fmt: skip
    assert test.columns["label"] == [None]
    with pytest.raises(TlxError, match="tfds:glue/mrpc@test, row 1: the label in 'label' is missing"):
        labels.class_indices(test, "label", ("equivalent", "not_equivalent"))
    with pytest.raises(TlxError, match=r"glue/cola is not prepared in .* \(under glue there is mrpc\)"):
        load("tfds:glue/cola")
